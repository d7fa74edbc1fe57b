//! How the catalogue's types travel to the database.

use sea_query::Value;
use sluice_catalog::device::{DecoderProfile, DeviceState};
use sluice_catalog::job::JobState;
use sluice_catalog::patch::{FullEncoding, PatchState};
use sluice_catalog::principal::{PrincipalKind, Role};
use sluice_catalog::product::{Channel, Visibility};
use sluice_catalog::release::ReleaseKind;
use sluice_catalog::rollout::{AttemptState, Failure, RolloutState};
use sluice_catalog::{Digest, TextSet, Time, contract, cover, id, policy, text};

/// A value that can be a parameter of a query.
pub trait Bind {
    /// Itself as the database driver's value.
    fn bind(self) -> Value;
    /// The typed NULL of its kind: PostgreSQL wants the type even of nothing.
    fn null() -> Value;
}

impl<T: Bind> Bind for Option<T> {
    fn bind(self) -> Value {
        self.map_or_else(T::null, T::bind)
    }

    fn null() -> Value {
        T::null()
    }
}

macro_rules! plain {
    ($($type:ty => $variant:ident, $self:ident => $value:expr;)*) => {$(
        impl Bind for $type {
            fn bind($self) -> Value {
                Value::$variant(Some($value))
            }
            fn null() -> Value {
                Value::$variant(None)
            }
        }
    )*};
}

plain! {
    bool => Bool, self => self;
    i32 => Int, self => self;
    i64 => BigInt, self => self;
    &str => String, self => self.to_owned();
    String => String, self => self;
    &String => String, self => self.clone();
    Time => BigInt, self => self.as_ms();
    Digest => Bytes, self => self.0.to_vec();
    Vec<u8> => Bytes, self => self;
    cover::CoverRule => String, self => self.to_string();
    &[u8] => Bytes, self => self.to_vec();
    &TextSet => String, self => self.to_json();
}

macro_rules! ids {
    ($($name:ident)*) => {$(
        impl Bind for id::$name {
            fn bind(self) -> Value {
                Value::Uuid(Some(self.0))
            }
            fn null() -> Value {
                Value::Uuid(None)
            }
        }
    )*};
}

ids!(CustomerId PlanId ContractId ProductId ReleaseId ArtifactId DeviceId CohortId RolloutId PrincipalId TokenId EnrolTokenId JobId PatchId FactId);

macro_rules! texts {
    ($($name:ty)*) => {$(
        impl Bind for &$name {
            fn bind(self) -> Value {
                Value::String(Some(self.as_str().to_owned()))
            }
            fn null() -> Value {
                Value::String(None)
            }
        }
    )*};
}

texts!(text::Serial text::ProductName text::Family text::Version text::TrainName text::Component text::HardwareId text::Code text::ContractNumber text::Slug text::Pid sluice_catalog::Mac);

macro_rules! enums {
    ($($name:ty)*) => {$(
        impl Bind for $name {
            fn bind(self) -> Value {
                Value::String(Some(self.as_str().to_owned()))
            }
            fn null() -> Value {
                Value::String(None)
            }
        }
    )*};
}

enums!(DecoderProfile DeviceState JobState FullEncoding PatchState PrincipalKind Role Channel Visibility ReleaseKind AttemptState Failure RolloutState contract::ContractState contract::WindowKind policy::PolicyScope);
