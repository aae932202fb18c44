//! The sign-in routes by name.
//!
//! Decides: the method and path of each, and whether only a user may ask it. Trusts: nothing; it is a table. Not here: what each does (a module of
//! its name).

use hyper::Method;

macro_rules! endpoints {
    ($($variant:ident $method:ident $path:literal $users:literal $doc:literal,)*) => {
        /// One sign-in route.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Endpoint {
            $(#[doc = $doc] $variant,)*
        }

        impl Endpoint {
            /// Every route.
            pub const ALL: [Self; [$($path),*].len()] = [$(Self::$variant,)*];

            /// The method it has.
            pub const fn method(self) -> Method {
                match self { $(Self::$variant => Method::$method,)* }
            }

            /// Its path, behind the prefix and a slash.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$variant => $path,)* }
            }

            /// Whether only a user may ask it.
            pub const fn is_for_users(self) -> bool {
                match self { $(Self::$variant => $users,)* }
            }
        }
    };
}

endpoints! {
    Login POST "login" false "A user signs in with a password.",
    Register POST "register" false "A user makes an account, and is signed in.",
    Refresh POST "refresh" false "A session gets new tokens.",
    PasswordReset POST "password-reset" false "A message to set a new password is sent, if there is such an account.",
    Logout POST "logout" true "Sessions end: this one, the others, or all.",
    Me GET "me" true "Who the user is.",
    WhoAmI GET "whoami" true "The same in other words, for older clients.",
    Sessions GET "sessions" true "The user's sessions.",
    EndSession DELETE "sessions/{session_id}" true "One of them ends.",
}
