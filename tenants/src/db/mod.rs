//! What code outside this crate gets to talk to PostgreSQL with. Each type carries where its statements run, and there
//! is no other way to run one: forgetting the tenant does not compile.
//!
//! - `place` runs single statements, and begins transactions;
//! - `transaction` is what an open one can do, and how it ends;
//! - `tenant` and `catalog` are what code outside sees of that.

mod catalog;
mod place;
mod tenant;
mod transaction;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

pub use catalog::{CatalogDb, CatalogTx};
pub use tenant::{TenantDb, TenantTx, Wake};

use place::{Execute, Fetch};

/// SQL comes from sea-query, with its values bound apart: text that is already SQL is refused.
fn refuse_unprepared() -> DbErr {
    DbErr::Custom("unprepared SQL is refused here".into())
}

macro_rules! connection_trait {
    ($type:ty, $inner:ident) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                DbBackend::Postgres
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.$inner.run::<Execute>(statement).await.map(Into::into)
            }

            async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
                Err(refuse_unprepared())
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                Ok(self.query_all_raw(statement).await?.into_iter().next())
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                let rows = self.$inner.run::<Fetch>(statement).await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }
        }
    };
}

connection_trait!(TenantDb, place);
connection_trait!(CatalogDb, place);
connection_trait!(TenantTx, transaction);
connection_trait!(CatalogTx, transaction);
