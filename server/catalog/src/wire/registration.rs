//! Registration of devices by their owners, and look-up of cover. `docs/registration.md` tells it.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::contract::ContractState;
use crate::device::DeviceState;
use crate::id::DeviceId;
use crate::text::{Code, ContractNumber, ProductName, Serial, Slug};

/// What a device signs to be registered.
pub fn register_message(product: &ProductName, serial: &Serial, challenge: &str) -> Vec<u8> {
    format!("sluice register 1\n{product}\n{serial}\n{challenge}\n").into_bytes()
}

/// What a device signs to get a registration code.
pub fn code_message(product: &ProductName, serial: &Serial, challenge: &str) -> Vec<u8> {
    format!("sluice registration code 1\n{product}\n{serial}\n{challenge}\n").into_bytes()
}

/// What a device signs to ask for its cover.
pub fn cover_message(product: &ProductName, serial: &Serial, challenge: &str) -> Vec<u8> {
    format!("sluice cover 1\n{product}\n{serial}\n{challenge}\n").into_bytes()
}

/// `POST /v1/register`: a device registers itself with the enrolment token of its owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// As given by `/v1/challenge`.
    pub challenge: String,
    /// Signature by the device's key over [`register_message`], 128 hexadecimal digits.
    pub signature: String,
    /// An enrolment token that belongs to a customer. The device becomes that customer's.
    pub token: String,
}

/// The answer to a registration by a device. Repeating the request gives the same answer and spends nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterResponse {
    /// The device's id.
    pub device_id: DeviceId,
    /// Whether it is accepted already.
    pub state: DeviceState,
}

/// `POST /v1/registration-code`: a device asks for a code that its owner types.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// As given by `/v1/challenge`.
    pub challenge: String,
    /// Signature by the device's key over [`code_message`], 128 hexadecimal digits.
    pub signature: String,
}

/// A code, shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CodeMade {
    /// Sixteen digits in groups of four.
    pub code: String,
    /// When it ends.
    pub expires_at: Time,
}

/// How long a printed code is good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CodeCreate {
    /// Days; ten years when absent.
    #[serde(default)]
    pub days: Option<u32>,
}

/// An owner registers a device with the code that it shows or that was printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrationCreate {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// Whose it becomes.
    pub customer: Slug,
    /// The code.
    pub code: String,
}

/// A registered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Registration {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// Whose it is; nobody's after a release.
    pub customer: Option<Slug>,
    /// Where the device stands in its life.
    pub state: DeviceState,
}

/// A device goes to another customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TransferCreate {
    /// Whose it becomes.
    pub customer: Slug,
}

/// `POST /v1/cover`: is this device covered? With a registration code, or a challenge and the device's signature.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoverRequest {
    /// The product.
    pub product: ProductName,
    /// The device's serial.
    pub serial: Serial,
    /// A registration code, which is not spent by this.
    #[serde(default)]
    pub code: Option<String>,
    /// As given by `/v1/challenge`.
    #[serde(default)]
    pub challenge: Option<String>,
    /// Signature by the device's key over [`cover_message`], 128 hexadecimal digits.
    #[serde(default)]
    pub signature: Option<String>,
}

/// Where a device's cover stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum CoverState {
    /// A plan without dates covers it.
    Open,
    /// A window covers it.
    Covered,
    /// Cover has ended; its days of grace count.
    Grace,
    /// Cover will begin.
    Planned,
    /// Cover has ended.
    Lapsed,
    /// No contract ever covered it.
    None,
}

/// A device's cover, without a name of anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CoverAnswer {
    /// Whether it is covered, by a window or its grace.
    pub covered: bool,
    /// Where it stands.
    pub state: CoverState,
    /// First moment no longer covered, or when cover ended.
    pub until: Option<Time>,
    /// When grace ends, while it lasts.
    pub grace_until: Option<Time>,
    /// When cover begins, or begins again.
    pub from: Option<Time>,
    /// What it is entitled to: the codes of what covers it now.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub codes: Vec<Code>,
}

/// What is known of a serial, for administrators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SerialCover {
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
    /// Where the device stands; absent when only contracts name the serial.
    pub device: Option<DeviceState>,
    /// Whose device it is.
    pub customer: Option<Slug>,
    /// Its cover.
    pub cover: CoverAnswer,
    /// The contracts that name it.
    pub contracts: Vec<SerialContract>,
}

/// A contract that names a serial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SerialContract {
    /// Its number.
    pub number: ContractNumber,
    /// Whose it is.
    pub customer: Slug,
    /// Its plan.
    pub plan: Slug,
    /// Whether it counts.
    pub state: ContractState,
    /// What it alone says of the device's cover.
    pub cover: CoverAnswer,
}
