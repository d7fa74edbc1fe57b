//! The first administrator.

use serde_json::json;
use sluice_catalog::Kind;
use sluice_catalog::id::{PrincipalId, TokenId};
use sluice_catalog::principal::{Principal, PrincipalKind, Role, Token};
use sluice_catalog::wire::admin::{BootstrapRequest, TokenCreated};
use sluice_catalog::{Digest, TextSet};

use super::{Actor, App};
use crate::error::{Error, Result};

impl App {
    /// Makes the first administrator. The bootstrap token can do this once and nothing else: as soon as any principal is
    /// there it is spent.
    pub async fn bootstrap(&self, actor: &Actor, request: &BootstrapRequest) -> Result<TokenCreated> {
        if !matches!(actor, Actor::Bootstrap) {
            return Err(Error::new(Kind::Forbidden, "only the bootstrap token makes the first administrator"));
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        // The audit chain's head is locked before anyone is counted: of two requests at once the second waits here, and
        // then finds the first one's administrator.
        let subject = format!("principal:{}", request.name);
        let detail = json!({"role": Role::Administrator});
        tx.audit_add(now, actor.name(), "principal.bootstrap", &subject, &detail).await?;
        if tx.principal_count().await? > 0 {
            return Err(Error::new(
                Kind::WrongState,
                "there is an administrator already: the bootstrap token is spent",
            ));
        }
        let principal = Principal {
            id: PrincipalId::new(now, self.dice.id()),
            name: request.name.clone(),
            kind: PrincipalKind::Person,
            role: Role::Administrator,
            customer_id: None,
            customer: None,
            created_at: now,
            disabled_at: None,
        };
        let secret = self.dice.secret("slp");
        let token = Token {
            id: TokenId::new(now, self.dice.id()),
            principal_id: principal.id,
            label: "first administrator".into(),
            scopes: TextSet::default(),
            created_at: now,
            expires_at: None,
            revoked_at: None,
        };
        tx.principal_add(&principal).await?;
        tx.token_add(&token, Digest::of(secret.as_bytes())).await?;
        tx.commit().await?;
        Ok(TokenCreated { principal, token_id: token.id, token: secret })
    }
}
