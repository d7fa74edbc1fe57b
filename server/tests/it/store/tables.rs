//! What tests read and alter behind the server's back.

use sluice_catalog::id::{DeviceId, RolloutId};
use sluice_catalog::wire::rollout::StopAll;
use sluice_server::store::Sql;

use crate::harness::TestServer;

/// Every value of every table, as lower-case hexadecimal of its bytes: whatever the engine's catalogue lists.
pub fn dump(server: &TestServer) -> Vec<(String, String)> {
    server.block_on(async {
        let store = &server.app.store;
        let sqlite = store.engine_name() == "sqlite";
        let columns: Vec<(String, String, String)> = Sql::new(if sqlite {
            "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        } else {
            "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT), CAST(data_type AS TEXT)
             FROM information_schema.columns WHERE table_schema = current_schema()"
        })
        .bind_nothing()
        .all(store)
        .await
        .unwrap();
        assert!(columns.len() > 150, "the catalogue lists {} columns", columns.len());
        let mut values = Vec::new();
        for (table, column, kind) in columns {
            let hex = match (sqlite, kind.as_str()) {
                (true, _) => format!("hex(\"{column}\")"),
                (false, "bytea") => format!("encode(\"{column}\", 'hex')"),
                (false, _) => format!("encode(convert_to(CAST(\"{column}\" AS TEXT), 'UTF8'), 'hex')"),
            };
            let rows: Vec<(String,)> =
                Sql::built(format!("SELECT {hex} FROM \"{table}\" WHERE \"{column}\" IS NOT NULL"))
                    .bind_nothing()
                    .all(store)
                    .await
                    .unwrap();
            values.extend(rows.into_iter().map(|(value,)| (format!("{table}.{column}"), value.to_lowercase())));
        }
        values
    })
}

/// Rewrites what an audit entry says, as an intruder would.
pub fn alter_entry(server: &TestServer, seq: i64, detail: &str) {
    server.block_on(async {
        let mut tx = server.app.store.begin().await.unwrap();
        let sql = Sql::new("UPDATE audit_entry SET detail = $1 WHERE seq = $2");
        sql.bind(detail).bind(seq).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    });
}

/// Calls a table something else: whoever looks for it finds nothing.
pub fn rename(server: &TestServer, from: &str, to: &str) {
    server.block_on(async {
        let mut tx = server.app.store.begin().await.unwrap();
        let sql = Sql::built(format!("ALTER TABLE {from} RENAME TO {to}"));
        sql.bind_nothing().execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    });
}

/// Rewrites every point of a rollout.
pub fn alter_points(server: &TestServer, rollout: RolloutId, point: &str) {
    server.block_on(async {
        let mut tx = server.app.store.begin().await.unwrap();
        let sql = Sql::new("UPDATE rollout_series SET point = $1 WHERE rollout_id = $2");
        sql.bind(point).bind(rollout).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    });
}

/// Turns the switch that stops everything as another server does, of which this one has not heard yet.
pub fn alter_stop_all(server: &TestServer, stop: &StopAll) {
    server.block_on(async {
        let mut tx = server.app.store.begin().await.unwrap();
        let sql = Sql::new(
            "INSERT INTO meta (key, value) VALUES ('stop_all', $1) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        );
        sql.bind(serde_json::to_string(stop).unwrap()).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    });
}

/// Opens an attempt of a device at a rollout, in a state that no program knows.
pub fn attempt_of_tomorrow(server: &TestServer, serial: &str, rollout: RolloutId) {
    server.block_on(async {
        let store = &server.app.store;
        let (device,): (DeviceId,) =
            Sql::new("SELECT id FROM device WHERE serial = $1").bind(serial).one(store).await.unwrap();
        let release = store.rollout_by_id(rollout).await.unwrap().unwrap().release_id;
        let mut tx = store.begin().await.unwrap();
        tx.attempt_open(device, release, rollout, server.now()).await.unwrap();
        let sql = Sql::new("UPDATE attempt SET state = 'of_tomorrow', began_at = 1 WHERE device_id = $1");
        sql.bind(device).execute(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
    });
}
