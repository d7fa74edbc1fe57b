//! Why does this device get, or not get, that version?

use sluice_catalog::Time;
use sluice_catalog::decide::{self, Why};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Serial, Version};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::devices;

impl App {
    /// The whole trace for a device at a moment, about every version or one. It answers from the database, not from a
    /// cache, with the function that decides for the device itself.
    pub async fn why(
        &self,
        actor: &Actor,
        product: &ProductName,
        serial: &Serial,
        version: Option<&Version>,
        at: Option<Time>,
    ) -> Result<Why> {
        actor.need(Permission::Read)?;
        let view = self.product_view(product)?;
        if let Some(version) = version
            && !view.releases().iter().any(|release| release.release.version == *version)
        {
            return Err(Error::not_found("version", format!("{product} {version}")));
        }
        let row = self.device_row(product, serial).await?;
        let device = devices::view(&self.store, &self.live, row).await?;
        Ok(decide::why(&device, &view, version, at.unwrap_or_else(|| self.now())))
    }
}
