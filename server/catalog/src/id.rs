//! Identifiers: UUID version 7 (RFC 9562), made by the program from a time and random bytes handed in, so that rows
//! sort by creation and no database invents a value.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Time;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(transparent))]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = Uuid))]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a version 7 id from a time (its first 48 bits, milliseconds) and ten random bytes.
            pub fn new(now: Time, random: [u8; 10]) -> Self {
                Self(uuid_v7(now, random))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

fn uuid_v7(now: Time, random: [u8; 10]) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(now.as_ms()).unwrap_or(0), &random).into_uuid()
}

id!(/// A customer: what a Lens-style client calls a tenant.
    CustomerId);
id!(/// A support plan: grants, a cover rule, grace days.
    PlanId);
id!(/// A support contract of one customer.
    ContractId);
id!(/// A product line.
    ProductId);
id!(/// One version of a product.
    ReleaseId);
id!(/// One image of a release: a component for some hardware.
    ArtifactId);
id!(/// A device. Its serial is unique within its product only.
    DeviceId);
id!(/// What places a device in a rollout's order. It moves with cover when a device is swapped.
    CohortId);
id!(/// A rollout of one release.
    RolloutId);
id!(/// A named person or machine.
    PrincipalId);
id!(/// One bearer token of a principal.
    TokenId);
id!(/// An enrolment token handed to devices.
    EnrolTokenId);
id!(/// A background job.
    JobId);
id!(/// A patch between two images.
    PatchId);
id!(/// One dated fact of a contract: a coverage window or a covered item.
    FactId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_creation_and_are_version_7() {
        let early = DeviceId::new(Time::from_ms(1_000), [255; 10]);
        let late = DeviceId::new(Time::from_ms(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(early.0.get_version_num(), 7);
        assert_eq!(early.to_string().parse::<DeviceId>().unwrap(), early);
    }
}
