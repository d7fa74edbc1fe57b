//! Software bills of materials, looked at before they are signed: CycloneDX 1.4 to 1.7 and SPDX 2.2 and 2.3, in JSON. What is
//! checked is what readers of these formats rely on; a file that passes names its components and itself.

use serde_json::Value;

/// Bytes of a bill: a Linux root file system has some tens of megabytes.
pub const MAX_SBOM_BYTES: usize = 64 << 20;
/// Components of one bill.
const MAX_COMPONENTS: usize = 200_000;
const CYCLONEDX: [&str; 4] = ["1.4", "1.5", "1.6", "1.7"];
const SPDX: [&str; 2] = ["SPDX-2.2", "SPDX-2.3"];

/// The format of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SbomFormat {
    /// CycloneDX (ECMA-424).
    CycloneDx,
    /// SPDX 2 (ISO/IEC 5962).
    Spdx,
}

impl SbomFormat {
    /// The usual name of a file of this format.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::CycloneDx => "bom.cdx.json",
            Self::Spdx => "bom.spdx.json",
        }
    }
}

/// What a bill says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sbom {
    /// Its format.
    pub format: SbomFormat,
    /// The format's version, as the bill states it.
    pub version: String,
    /// How many components it lists.
    pub components: usize,
}

/// Why a bill is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SbomError {
    /// More bytes than any bill has.
    #[error("SBOM: {length} bytes are over the limit of {MAX_SBOM_BYTES}")]
    TooLarge {
        /// Bytes given.
        length: usize,
    },
    /// Neither of the two formats.
    #[error("SBOM: neither CycloneDX ({}) nor SPDX ({}) in JSON", CYCLONEDX.join(", "), SPDX.join(", "))]
    Format,
    /// A field is missing or wrong.
    #[error("SBOM: {field} is not {expected}")]
    Field {
        /// The field, with the number of the component where it is in one.
        field: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl Sbom {
    /// Reads and checks a bill.
    pub fn read(bytes: &[u8]) -> Result<Self, SbomError> {
        if bytes.len() > MAX_SBOM_BYTES {
            return Err(SbomError::TooLarge { length: bytes.len() });
        }
        let bill: Value = serde_json::from_slice(bytes).map_err(|_| SbomError::Format)?;
        let text = |name: &str| bill.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("bomFormat"), text("specVersion"), text("spdxVersion")) {
            ("CycloneDX", version, _) if CYCLONEDX.contains(&version) => cyclonedx(&bill, version),
            (_, _, version) if SPDX.contains(&version) => spdx(&bill, version),
            _ => Err(SbomError::Format),
        }
    }
}

fn cyclonedx(bill: &Value, version: &str) -> Result<Sbom, SbomError> {
    named(bill.pointer("/metadata/component").unwrap_or(&Value::Null), "metadata.component", &["type", "name"])?;
    if bill.get("version").is_some_and(|number| number.as_u64().is_none_or(|number| number == 0)) {
        return refuse("version".to_owned(), "a number from 1 on");
    }
    if let Some(serial) = bill.get("serialNumber")
        && !serial.as_str().is_some_and(is_urn_uuid)
    {
        return refuse("serialNumber".to_owned(), "urn:uuid: and a UUID");
    }
    let components = list(bill, "components", &["type", "name"])?;
    Ok(Sbom { format: SbomFormat::CycloneDx, version: version.to_owned(), components })
}

fn spdx(bill: &Value, version: &str) -> Result<Sbom, SbomError> {
    named(bill, "", &["name", "documentNamespace", "dataLicense"])?;
    if bill.get("SPDXID").and_then(Value::as_str) != Some("SPDXRef-DOCUMENT") {
        return refuse("SPDXID".to_owned(), "SPDXRef-DOCUMENT");
    }
    let creation = bill.get("creationInfo").unwrap_or(&Value::Null);
    named(creation, "creationInfo", &["created"])?;
    let creators = creation.get("creators").and_then(Value::as_array);
    if !creators.is_some_and(|creators| !creators.is_empty() && creators.iter().all(Value::is_string)) {
        return refuse("creationInfo.creators".to_owned(), "a list of whoever made the bill");
    }
    let components = list(bill, "packages", &["name", "SPDXID", "downloadLocation"])?;
    Ok(Sbom { format: SbomFormat::Spdx, version: version.to_owned(), components })
}

/// Counts a list of components, each of which must have these texts.
fn list(bill: &Value, field: &str, texts: &[&str]) -> Result<usize, SbomError> {
    let Some(components) = bill.get(field).and_then(Value::as_array) else {
        return refuse(field.to_owned(), "a list of components");
    };
    if !(1..=MAX_COMPONENTS).contains(&components.len()) {
        return refuse(field.to_owned(), "a list of 1 to 200000 components");
    }
    for (number, component) in components.iter().enumerate() {
        named(component, &format!("{field}[{number}]"), texts)?;
    }
    Ok(components.len())
}

fn named(object: &Value, at: &str, texts: &[&str]) -> Result<(), SbomError> {
    for name in texts {
        if object.get(name).and_then(Value::as_str).is_none_or(|text| text.trim().is_empty()) {
            let field = if at.is_empty() { (*name).to_owned() } else { format!("{at}.{name}") };
            return refuse(field, "a text that says something");
        }
    }
    Ok(())
}

fn is_urn_uuid(text: &str) -> bool {
    let groups: Option<Vec<&str>> = text.strip_prefix("urn:uuid:").map(|uuid| uuid.split('-').collect());
    groups.is_some_and(|groups| {
        groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
            && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

fn refuse<T>(field: String, expected: &'static str) -> Result<T, SbomError> {
    Err(SbomError::Field { field, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cyclonedx() -> Value {
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
            "metadata": {"component": {"type": "firmware", "name": "acme-cam", "version": "2.4.1"}},
            "components": [{"type": "library", "name": "zlib", "version": "1.3.1"}, {"type": "library", "name": "musl"}],
            "vulnerabilities": [{"ratings": [{"score": 7.5}]}],
        })
    }

    fn spdx() -> Value {
        json!({
            "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "acme-cam-2.4.1",
            "documentNamespace": "https://acme.example/spdx/acme-cam-2.4.1",
            "creationInfo": {"created": "2026-06-01T12:00:00Z", "creators": ["Tool: builder"]},
            "packages": [{"name": "zlib", "SPDXID": "SPDXRef-zlib", "downloadLocation": "NOASSERTION"}],
        })
    }

    fn read(bill: &Value) -> Result<Sbom, SbomError> {
        Sbom::read(bill.to_string().as_bytes())
    }

    #[test]
    fn both_formats_are_read() {
        let bill = read(&cyclonedx()).unwrap();
        assert_eq!((bill.format, bill.version.as_str(), bill.components), (SbomFormat::CycloneDx, "1.6", 2));
        let bill = read(&spdx()).unwrap();
        assert_eq!((bill.format, bill.version.as_str(), bill.components), (SbomFormat::Spdx, "SPDX-2.3", 1));
        assert_eq!(bill.format.file_name(), "bom.spdx.json");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (pointer, field) in [
            ("/metadata/component/name", "metadata.component.name"),
            ("/version", "version"),
            ("/serialNumber", "serialNumber"),
            ("/components", "components"),
            ("/components/1/name", "components[1].name"),
            ("/components/0/type", "components[0].type"),
        ] {
            let mut bill = cyclonedx();
            *bill.pointer_mut(pointer).unwrap() = json!(0);
            let error = read(&bill).unwrap_err();
            assert!(matches!(&error, SbomError::Field { field: found, .. } if found == field), "{pointer}: {error}");
        }
        for (pointer, field) in [
            ("/SPDXID", "SPDXID"),
            ("/documentNamespace", "documentNamespace"),
            ("/creationInfo/creators", "creationInfo.creators"),
            ("/creationInfo", "creationInfo.created"),
            ("/packages/0/downloadLocation", "packages[0].downloadLocation"),
        ] {
            let mut bill = spdx();
            *bill.pointer_mut(pointer).unwrap() = json!(0);
            let error = read(&bill).unwrap_err();
            assert!(matches!(&error, SbomError::Field { field: found, .. } if found == field), "{pointer}: {error}");
        }
        let mut empty = cyclonedx();
        empty["components"] = json!([]);
        assert!(read(&empty).is_err());
    }

    #[test]
    fn other_files_are_no_bill() {
        for text in
            ["", "[]", "{}", r#"{"bomFormat":"CycloneDX","specVersion":"9.0"}"#, r#"{"spdxVersion":"SPDX-1.0"}"#]
        {
            assert_eq!(Sbom::read(text.as_bytes()), Err(SbomError::Format), "{text}");
        }
        assert!(matches!(Sbom::read(&vec![b' '; MAX_SBOM_BYTES + 1]), Err(SbomError::TooLarge { .. })));
    }
}
