//! Lens-style GraphQL. The schema is a translation: names are those that such clients send, the decision behind is ours.
//! Anonymous queries see public metadata; a device's session token adds its entitlement and a download of its own; a principal's token
//! opens `why`.

mod software;
mod why;

use actix_web::{HttpRequest, HttpResponse, web};
use async_graphql::http::parse_query_string;
use async_graphql::{BatchRequest, EmptyMutation, EmptySubscription, MergedObject, Request, Schema};
use sluice_catalog::Kind;

use super::{Answer, Shared, auth};
use crate::error::Error;
use software::SoftwareQuery;
use why::WhyQuery;

/// Nesting of a query: the deepest useful one has six.
const MAX_DEPTH: usize = 12;
/// Fields of a query, counted with every alias: clients alias 25 devices per request, with about 20 fields each. The
/// surface is anonymous, so this bounds what one request may cost.
const MAX_COMPLEXITY: usize = 1000;
/// Recursion of the parser, before anything is counted.
const MAX_RECURSION: usize = 32;
/// Longest query text.
const MAX_QUERY_LEN: usize = 64 * 1024;

/// Root of all queries.
#[derive(Debug, Default, MergedObject)]
pub struct Query(SoftwareQuery, WhyQuery);

/// The schema.
pub type LensSchema = Schema<Query, EmptyMutation, EmptySubscription>;

/// The session token that came with a request, if any.
#[derive(Clone, Debug, Default)]
struct Token(Option<String>);

/// Makes the schema once for all workers.
pub fn schema(shared: &Shared) -> LensSchema {
    Schema::build(Query::default(), EmptyMutation, EmptySubscription)
        .data(shared.clone())
        .limit_depth(MAX_DEPTH)
        .limit_complexity(MAX_COMPLEXITY)
        .limit_recursive_depth(MAX_RECURSION)
        .finish()
}

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::resource("/graphql")
            .app_data(super::problem::json_config(MAX_QUERY_LEN))
            .route(web::post().to(post))
            .route(web::get().to(get)),
    );
}

async fn post(schema: web::Data<LensSchema>, request: HttpRequest, body: web::Json<BatchRequest>) -> Answer {
    match body.into_inner() {
        BatchRequest::Single(query) => Ok(run(&schema, &request, query).await),
        // A batch multiplies every limit.
        BatchRequest::Batch(_) => {
            Err(Error::new(Kind::Malformed, "send one operation per request; alias fields instead").into())
        }
    }
}

async fn get(schema: web::Data<LensSchema>, request: HttpRequest) -> Answer {
    let text = request.query_string();
    if text.len() > MAX_QUERY_LEN {
        return Err(Error::new(Kind::TooLarge, format!("query: at most {MAX_QUERY_LEN} bytes")).into());
    }
    let query = parse_query_string(text).map_err(|error| Error::new(Kind::Malformed, error.to_string()))?;
    Ok(run(&schema, &request, query).await)
}

async fn run(schema: &LensSchema, request: &HttpRequest, query: Request) -> HttpResponse {
    let token = Token(auth::bearer(request).map(str::to_owned));
    let response = schema.execute(query.data(token)).await;
    HttpResponse::Ok().json(response)
}

/// An error as GraphQL clients know it: a message, and `extensions.code`.
fn graphql_error(error: &Error) -> async_graphql::Error {
    use async_graphql::ErrorExtensions as _;
    async_graphql::Error::new(error.detail.clone())
        .extend_with(|_, extensions| extensions.set("code", error.kind.graphql_code()))
}
