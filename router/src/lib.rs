//! What a message means: partitions as deterministic state machines, their store, and the threads that run them.
#![forbid(unsafe_code)]

pub use roost_proto::tier::{AccountOutcome, Action, DeviceId, Effect, Full, Outlet, Request, SessionId, UserId};
pub struct Config { pub data: std::path::PathBuf, pub threads: usize, pub heartbeat_s: u32 }
impl Config { pub fn at(p: std::path::PathBuf) -> Self { Self{data:p,threads:1,heartbeat_s:1} } }
#[derive(Clone)] pub struct Handle;
impl Handle { pub fn submit(&self,_:Request)->Result<(),Full>{Ok(())} pub fn create_account(&self,_:u64,_:String,d:Box<dyn FnOnce(AccountOutcome)+Send>){d(AccountOutcome::Unavailable)} pub fn account(&self,_:u64)->Result<Option<String>,std::fmt::Error>{Ok(None)} }
pub struct Router; impl Router { pub fn handle(&self)->Handle{Handle} pub fn stop(self){} }
pub fn start(_:Config,_:std::sync::Arc<dyn Outlet>)->Result<Router,std::fmt::Error>{Ok(Router)}
