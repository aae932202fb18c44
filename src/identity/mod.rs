//! The identity server, Supabase Auth (GoTrue): the one place where passwords are checked and tokens are issued.

pub mod throttle;
