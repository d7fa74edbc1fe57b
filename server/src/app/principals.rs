//! Named people and machines, and their tokens.

use serde_json::json;
use sluice_catalog::Digest;
use sluice_catalog::id::{PrincipalId, TokenId};
use sluice_catalog::principal::{Permission, Principal, Token};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{MAX_TITLE_LEN, PrincipalCreate, TokenCreate, TokenCreated};

use super::{Actor, App, Made};
use crate::error::{Error, Result};

/// Longest lived token that is not for ever, days.
const MAX_TOKEN_DAYS: i64 = 3660;

impl App {
    /// Principals after a name.
    pub async fn principal_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Principal>> {
        actor.need(Permission::Principals)?;
        Ok(self.store.principal_list(after, limit).await?)
    }

    /// Makes a principal. The customer that it is bound to is its own for good: else its tokens would read another's things one day.
    pub async fn principal_create(&self, actor: &Actor, request: &PrincipalCreate) -> Result<Made<Principal>> {
        actor.need(Permission::Principals)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let customer = match &request.customer {
            Some(name) => Some(tx.customer_by_name(name).await?.ok_or_else(|| Error::not_found("customer", name))?),
            None => None,
        };
        let customer_id = customer.as_ref().map(|customer| customer.id);
        if let Some(there) = tx.principal_by_name(&request.name).await? {
            let same = there.kind == request.kind && there.role == request.role && there.customer_id == customer_id;
            if same && there.disabled_at.is_none() {
                return Ok(Made::Same(there));
            }
            return Err(Error::conflict(format!("there is another principal `{}`", request.name)));
        }
        let principal = Principal {
            id: PrincipalId::new(now, self.dice.id()),
            name: request.name.clone(),
            kind: request.kind,
            role: request.role,
            customer_id,
            customer: customer.map(|customer| customer.name),
            created_at: now,
            disabled_at: None,
        };
        tx.principal_add(&principal).await?;
        let subject = format!("principal:{}", principal.name);
        let detail = json!({"kind": principal.kind, "role": principal.role, "customer": principal.customer});
        tx.audit_add(now, actor.name(), "principal.create", &subject, &detail).await?;
        tx.commit().await?;
        Ok(Made::New(principal))
    }

    /// Disables a principal: every token of it is dead from now on.
    pub async fn principal_disable(&self, actor: &Actor, name: &Slug) -> Result<Principal> {
        actor.need(Permission::Principals)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let mut principal = tx.principal_by_name(name).await?.ok_or_else(|| Error::not_found("principal", name))?;
        if principal.name.as_str() == actor.name() {
            return Err(Error::new(
                sluice_catalog::Kind::WrongState,
                "you cannot disable yourself: ask another administrator",
            ));
        }
        if tx.principal_disable(principal.id, now).await? {
            let subject = format!("principal:{name}");
            tx.audit_add(now, actor.name(), "principal.disable", &subject, &json!({})).await?;
            tx.commit().await?;
            principal.disabled_at = Some(now);
        }
        Ok(principal)
    }

    /// Makes a token for a principal.
    pub async fn token_create(&self, actor: &Actor, name: &Slug, request: &TokenCreate) -> Result<TokenCreated> {
        actor.need(Permission::Principals)?;
        let now = self.now();
        if request.label.len() > MAX_TITLE_LEN || request.label.chars().any(char::is_control) {
            return Err(Error::invalid(
                "label",
                format!("at most {MAX_TITLE_LEN} bytes, none of them a control character"),
            ));
        }
        for scope in request.scopes.iter() {
            scope.parse::<Permission>().map_err(|error| Error::invalid("scopes", error))?;
        }
        if request.expires_at.is_some_and(|at| at <= now || at > now.plus_days(MAX_TOKEN_DAYS)) {
            return Err(Error::invalid("expires_at", format!("a moment within the next {MAX_TOKEN_DAYS} days")));
        }
        let mut tx = self.store.begin().await?;
        let principal = tx.principal_by_name(name).await?.ok_or_else(|| Error::not_found("principal", name))?;
        let secret = self.dice.secret("slp");
        let token = Token {
            id: TokenId::new(now, self.dice.id()),
            principal_id: principal.id,
            label: request.label.clone(),
            scopes: request.scopes.clone(),
            created_at: now,
            expires_at: request.expires_at,
            revoked_at: None,
        };
        tx.token_add(&token, Digest::of(secret.as_bytes())).await?;
        let detail =
            json!({"token": token.id, "label": token.label, "scopes": token.scopes, "expires_at": token.expires_at});
        tx.audit_add(now, actor.name(), "token.create", &format!("principal:{name}"), &detail).await?;
        tx.commit().await?;
        Ok(TokenCreated { principal, token_id: token.id, token: secret })
    }

    /// Revokes a token.
    pub async fn token_revoke(&self, actor: &Actor, id: TokenId) -> Result<()> {
        actor.need(Permission::Principals)?;
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let token = tx.token_by_id(id).await?.ok_or_else(|| Error::not_found("token", id))?;
        if tx.token_revoke(token.id, now).await? {
            tx.audit_add(now, actor.name(), "token.revoke", &format!("token:{id}"), &json!({"label": token.label}))
                .await?;
            tx.commit().await?;
        }
        Ok(())
    }
}
