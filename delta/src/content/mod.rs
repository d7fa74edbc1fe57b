//! Looks inside compressed firmware: finds streams in an image, decodes them, and rebuilds them bit for bit.
//!
//! * [`find`] walks an image and says which compressed streams it has, and how each is rebuilt exactly.
//! * [`ContentDecoder`] decodes one stream with memory-safe code; [`OldContents`] reads the contents of many at random.
//! * [`ContentEncoder`] rebuilds one stream from its content.
//!
//! Everything here reads bytes that somebody else made. Bounds are named in `limits`.

mod codec;
mod decode;
#[cfg(feature = "recode")]
mod deflate;
#[cfg(feature = "recode")]
mod encode;
mod error;
#[cfg(feature = "generate")]
mod find;
#[cfg(feature = "recode")]
mod helper;
mod inflate;
mod limits;
mod old;
mod recipe;
#[cfg(feature = "recode")]
mod xz;
#[cfg(feature = "recode")]
mod zstd_codec;

#[cfg(feature = "generate")]
pub use self::find::{DEFAULT_STREAM_RAM, FindLimits, Found, Side, find};
#[cfg(feature = "generate")]
pub(crate) use self::find::{find_at, places};
pub use self::{
    codec::{Branch, Codec, Dict},
    decode::ContentDecoder,
    error::ContentError,
    limits::{MAX_CONTENT_LEN, MAX_DEPTH, MAX_DICT_CODE, MAX_STREAMS, MAX_TOTAL_CONTENT, MAX_WHOLE_LEN},
    old::{Access, OldContents, OldStream, Plan, Unfolded},
    recipe::{Deflate, Lzma, Recipe, Recoder, Zstd, ZstdMode, ZstdVersion},
};
#[cfg(feature = "recode")]
pub use self::{encode::ContentEncoder, helper::Helpers};
