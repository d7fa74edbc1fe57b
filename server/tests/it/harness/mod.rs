//! What the tests stand on: the running server, the offline side that signs, and a device.

pub mod agent;
pub mod ceremony;
#[macro_use]
pub mod clients;
pub mod device;
pub mod http;
pub mod mirror;
pub mod offline;
pub mod process;
pub mod replicas;
pub mod s3;
pub mod server;
pub mod softhsm;
pub mod wait;
pub mod world;

pub use agent::TestAgent;
pub use ceremony::{Ceremony, Release};
pub use clients::{Installation, StockClient};
pub use device::TestDevice;
pub use http::{Answer, Client};
pub use mirror::Mirror;
pub use offline::Offline;
pub use replicas::Replicas;
pub use server::{Place, TestServer};
pub use world::World;

pub use crate::store::database::{Database, Engine};

/// One test for each failpoint and database: the function `killed_at` of the module, which kills the server there.
macro_rules! killed_at {
    ($($test:ident => $failpoint:literal),+ $(,)?) => {
        /// Every failpoint that a test here kills at.
        pub const TESTED: &[&str] = &[$($failpoint),+];
        $(
            mod $test {
                use super::{Engine, killed_at};

                #[test]
                fn sqlite() {
                    killed_at($failpoint, Engine::Sqlite);
                }

                #[test]
                fn postgres() {
                    killed_at($failpoint, Engine::Postgres);
                }
            }
        )+
    };
}

/// One test function, on both databases.
macro_rules! both_engines {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::harness::Engine;

            #[test]
            fn sqlite() {
                super::$name(Engine::Sqlite);
            }

            #[test]
            fn postgres() {
                super::$name(Engine::Postgres);
            }
        }
    )+};
}

/// One test function, on both blob stores.
macro_rules! both_places {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::harness::Place;

            #[test]
            fn local() {
                super::$name(Place::Local);
            }

            #[test]
            fn s3() {
                super::$name(Place::S3);
            }
        }
    )+};
}
