//! What the benches rest on: the sample product decides as its benches say, the decision allocates nothing, and the HTTP
//! client and its load work against a server.

mod connection;
mod decision;
