//! The table of sign-in routes: the method and path of each, and whether it requires a user. The
//! handlers are in `sign_in::endpoints`.

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

            /// Its one method.
            pub const fn method(self) -> Method {
                match self { $(Self::$variant => Method::$method,)* }
            }

            /// Its path, behind the prefix and a slash.
            pub const fn path(self) -> &'static str {
                match self { $(Self::$variant => $path,)* }
            }

            /// Whether the route requires a user.
            pub const fn is_for_users(self) -> bool {
                match self { $(Self::$variant => $users,)* }
            }
        }
    };
}

endpoints! {
    Login POST "login" false "Signs a user in with a password.",
    Register POST "register" false "Creates an account and signs the user in.",
    Refresh POST "refresh" false "Issues new tokens for a session.",
    PasswordReset POST "password-reset" false "Sends a message to set a new password, if the account exists.",
    Logout POST "logout" true "Ends this session, the others, or all.",
    Me GET "me" true "Returns the user.",
    WhoAmI GET "whoami" true "Returns the user in the format of older clients.",
    Sessions GET "sessions" true "Lists the user's sessions.",
    EndSession DELETE "sessions/{session_id}" true "Ends one of the user's sessions.",
    ChangePassword PUT "password" true "Sets a new password, and ends the user's other sessions.",
    Reauthenticate POST "reauthenticate" true "Sends a code that a new password may need.",
    Factors GET "factors" true "Lists the user's second factors.",
    Enroll POST "factors/enroll" true "Adds a second factor, which is to be verified.",
    Challenge POST "factors/{factor_id}/challenge" true "Asks for the challenge of a second factor.",
    VerifyFactor POST "factors/{factor_id}/verify" true "Proves a second factor, and raises the session.",
    Unenroll DELETE "factors/{factor_id}" true "Removes a second factor.",
}
