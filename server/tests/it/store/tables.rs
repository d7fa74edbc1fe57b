//! What tests read and alter behind the server's back.

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
