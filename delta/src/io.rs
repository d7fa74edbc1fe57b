//! Reading, writing and seeking. With the feature `std` these are the traits and errors of `std::io` themselves.
//!
//! Without it they are traits of the same names and methods, so that code for them compiles with either. They have the part
//! of `std::io` that an applier needs; an error is its kind and nothing else.

#[cfg(not(feature = "std"))]
pub use self::bare::{Cursor, Empty, Error, ErrorKind, Read, Result, Seek, SeekFrom, Write, empty};
#[cfg(feature = "std")]
pub use std::io::{Cursor, Empty, Error, ErrorKind, Read, Result, Seek, SeekFrom, Write, empty};

#[cfg(not(feature = "std"))]
mod bare {
    use core::fmt;

    /// What went wrong, as in `std::io::ErrorKind`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    #[expect(missing_docs, reason = "the names say it")]
    pub enum ErrorKind {
        Interrupted,
        InvalidData,
        InvalidInput,
        UnexpectedEof,
        WriteZero,
        Other,
    }

    /// Trouble of the machine.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Error {
        kind: ErrorKind,
    }

    /// Result of reading, writing or seeking.
    pub type Result<T> = core::result::Result<T, Error>;

    impl Error {
        /// An error of this kind. Its cause is not kept: there is no memory to keep it in.
        pub fn new<E>(kind: ErrorKind, _cause: E) -> Self {
            Self { kind }
        }

        /// What went wrong.
        pub fn kind(&self) -> ErrorKind {
            self.kind
        }
    }

    impl From<ErrorKind> for Error {
        fn from(kind: ErrorKind) -> Self {
            Self { kind }
        }
    }

    impl fmt::Display for Error {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(match self.kind {
                ErrorKind::Interrupted => "operation interrupted",
                ErrorKind::InvalidData => "invalid data",
                ErrorKind::InvalidInput => "invalid input parameter",
                ErrorKind::UnexpectedEof => "unexpected end of file",
                ErrorKind::WriteZero => "write zero",
                ErrorKind::Other => "other error",
            })
        }
    }

    impl core::error::Error for Error {}

    /// Reads forwards.
    pub trait Read {
        /// Reads at least one byte, unless `out` is empty or there are no more, and says how many.
        ///
        /// # Errors
        /// Whatever the storage reports; [`ErrorKind::Interrupted`] to be asked again.
        fn read(&mut self, out: &mut [u8]) -> Result<usize>;

        /// Fills `out`.
        ///
        /// # Errors
        /// As [`Read::read`], and [`ErrorKind::UnexpectedEof`].
        fn read_exact(&mut self, mut out: &mut [u8]) -> Result<()> {
            while !out.is_empty() {
                match self.read(out) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(read) => out = out.get_mut(read..).unwrap_or_default(),
                    Err(error) if error.kind == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }

    /// Writes forwards.
    pub trait Write {
        /// Writes at least one byte, if there are any, and says how many.
        ///
        /// # Errors
        /// Whatever the storage reports; [`ErrorKind::Interrupted`] to be asked again.
        fn write(&mut self, bytes: &[u8]) -> Result<usize>;

        /// Makes sure that everything arrived.
        ///
        /// # Errors
        /// Whatever the storage reports.
        fn flush(&mut self) -> Result<()>;

        /// Writes all of `bytes`.
        ///
        /// # Errors
        /// As [`Write::write`], and [`ErrorKind::WriteZero`].
        fn write_all(&mut self, mut bytes: &[u8]) -> Result<()> {
            while !bytes.is_empty() {
                match self.write(bytes) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                    Err(error) if error.kind == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }
    }

    /// A place to go on from.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[expect(missing_docs, reason = "as in std::io")]
    pub enum SeekFrom {
        Start(u64),
        End(i64),
        Current(i64),
    }

    /// Goes to another place.
    pub trait Seek {
        /// Goes there and says where that is from the beginning.
        ///
        /// # Errors
        /// Whatever the storage reports.
        fn seek(&mut self, place: SeekFrom) -> Result<u64>;
    }

    impl<T: Read + ?Sized> Read for &mut T {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            (**self).read(out)
        }
    }

    impl<T: Write + ?Sized> Write for &mut T {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            (**self).write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            (**self).flush()
        }
    }

    impl<T: Seek + ?Sized> Seek for &mut T {
        fn seek(&mut self, place: SeekFrom) -> Result<u64> {
            (**self).seek(place)
        }
    }

    impl Read for &[u8] {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            let (now, later) = self.split_at(self.len().min(out.len()));
            for (to, from) in out.iter_mut().zip(now) {
                *to = *from;
            }
            *self = later;
            Ok(now.len())
        }
    }

    #[cfg(feature = "alloc")]
    impl Write for alloc::vec::Vec<u8> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Nothing to read, and nowhere that keeps what is written.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Empty;

    /// See [`Empty`].
    pub fn empty() -> Empty {
        Empty
    }

    impl Read for Empty {
        fn read(&mut self, _out: &mut [u8]) -> Result<usize> {
            Ok(0)
        }
    }

    impl Write for Empty {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    impl Seek for Empty {
        fn seek(&mut self, _place: SeekFrom) -> Result<u64> {
            Ok(0)
        }
    }

    /// Memory that is read at random, such as flash that is mapped.
    #[derive(Debug, Clone, Copy, Default)]
    pub struct Cursor<T> {
        bytes: T,
        place: u64,
    }

    impl<T> Cursor<T> {
        /// At the beginning of `bytes`.
        pub fn new(bytes: T) -> Self {
            Self { bytes, place: 0 }
        }
    }

    impl<T: AsRef<[u8]>> Read for Cursor<T> {
        fn read(&mut self, out: &mut [u8]) -> Result<usize> {
            let rest = usize::try_from(self.place).ok().and_then(|place| self.bytes.as_ref().get(place..));
            let read = rest.unwrap_or_default().read(out)?;
            self.place += read as u64;
            Ok(read)
        }
    }

    impl<T: AsRef<[u8]>> Seek for Cursor<T> {
        fn seek(&mut self, place: SeekFrom) -> Result<u64> {
            let (from, by) = match place {
                SeekFrom::Start(place) => (place, 0),
                SeekFrom::End(by) => (self.bytes.as_ref().len() as u64, by),
                SeekFrom::Current(by) => (self.place, by),
            };
            self.place = from.checked_add_signed(by).ok_or(ErrorKind::InvalidInput)?;
            Ok(self.place)
        }
    }
}
