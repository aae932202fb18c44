//! Cached tokens: fast, and never accepted where verifying again would refuse.

use proptest::prelude::*;

use super::*;
use crate::tokens::KeySet;

fn with_cache(entries: &[TokenIssuer], cache: &Arc<VerifiedCache>) -> Tokens {
    Tokens::new(entries, Arc::clone(cache), &key_sources()).unwrap()
}

#[test]
fn a_token_seen_again_is_a_hit_and_the_same_user() {
    let cache = new_cache();
    let token = hs256().sign(&claims()).unwrap();
    let first = expect_user(with_cache(&[hs_entry()], &cache).verify(&token, NOW));
    // A reload without changes keeps the cache.
    let second = expect_user(with_cache(&[hs_entry()], &cache).verify(&token, NOW + 1));
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!((cache.hits(), cache.misses(), cache.len()), (1, 1, 1));
}

#[test]
fn refusals_and_public_keys_are_not_remembered() {
    let cache = new_cache();
    let tokens = with_cache(&[hs_entry()], &cache);
    let expired = hs256().sign(&claims().expiring(NOW - 100)).unwrap();
    let anon = hs256().sign(&claims().role("anon").without("sub")).unwrap();
    for token in [expired.as_str(), "a.b.c", "sb_publishable_x", &anon] {
        let _ = tokens.verify(token, NOW);
        let _ = tokens.verify(token, NOW);
    }
    assert!(cache.is_empty());
    assert_eq!(cache.hits(), 0);
}

#[test]
fn a_cached_token_ends_with_its_entry() {
    let token = hs256().sign(&claims().roles(["staff"])).unwrap();
    let changes: [fn(&mut TokenIssuer); 6] = [
        |entry| entry.issuer.push('x'),
        |entry| entry.audience = vec!["other".to_owned()],
        |entry| entry.algorithms = vec![Algorithm::HS384],
        |entry| entry.require = vec![("role".to_owned(), vec!["other".to_owned()])],
        |entry| entry.until = Some(NOW - 1),
        |entry| entry.keys = KeySource::Secret(Secret::new("b".repeat(64))),
    ];
    for change in changes {
        let cache = new_cache();
        expect_user(with_cache(&[hs_entry()], &cache).verify(&token, NOW));
        let mut entry = hs_entry();
        change(&mut entry);
        assert!(with_cache(&[entry], &cache).verify(&token, NOW).is_err());
        assert!(cache.is_empty(), "what is not good any more is forgotten");
    }
}

#[test]
fn a_cached_token_expires_and_earlier_with_a_shorter_leeway() {
    let cache = new_cache();
    let tokens = with_cache(&[hs_entry()], &cache);
    let token = hs256()
        .sign(&claims().expiring(NOW + 60).with("nbf", NOW))
        .unwrap();
    expect_user(tokens.verify(&token, NOW));
    expect_user(tokens.verify(&token, NOW + 64));
    assert_eq!(cache.hits(), 1);
    let mut strict = hs_entry();
    strict.leeway = Duration::ZERO;
    let verify = |tokens: &Tokens, now| tokens.verify(&token, now).unwrap_err().reason;
    assert_eq!(
        verify(&with_cache(&[strict], &cache), NOW + 64),
        Reason::TokenExpired
    );
    assert_eq!(verify(&tokens, NOW + 65), Reason::TokenExpired);
    // A clock that was set back.
    expect_user(tokens.verify(&token, NOW));
    assert_eq!(verify(&tokens, NOW - 6), Reason::TokenNotYetValid);
}

#[test]
fn a_cached_token_ends_with_its_key_and_survives_a_rotation_that_keeps_the_key() {
    let (old, new) = (
        signer(Algorithm::ES256),
        Signer::generate(Algorithm::ES256).unwrap(),
    );
    let new = new.with_kid("new");
    let sources = key_sources();
    let publication = published_at("https://k.test/");
    let source = sources.get_or_insert(ISSUER, &publication);
    let cache = new_cache();
    let entries = [entry(
        &[Algorithm::ES256],
        KeySource::Published(publication),
    )];
    let tokens = Tokens::new(&entries, Arc::clone(&cache), &sources).unwrap();
    let publish = |keys: &[&Signer]| {
        let jwks: Vec<_> = keys.iter().map(|key| key.public_jwk().unwrap()).collect();
        source.receive(KeySet::parse(set_of(&jwks).as_bytes()).unwrap(), NOW);
    };
    let token = old.sign(&claims()).unwrap();

    assert_eq!(
        tokens.verify(&token, NOW).unwrap_err().reason,
        Reason::KeysUnavailable
    );
    assert!(!tokens.has_all_keys(NOW));
    publish(&[&old]);
    assert!(tokens.has_all_keys(NOW));
    expect_user(tokens.verify(&token, NOW));
    publish(&[&old, &new]);
    expect_user(tokens.verify(&token, NOW));
    assert_eq!(cache.hits(), 1);
    source.fail("away".to_owned(), false);
    expect_user(tokens.verify(&token, NOW));
    assert_eq!(cache.hits(), 2);
    publish(&[&new]);
    // It is not among the cached keys. Only a later fetch can prove that it is not published.
    assert_eq!(
        tokens.verify(&token, NOW).unwrap_err().reason,
        Reason::KeysUnavailable
    );
    // The same `kid` for another key.
    publish(&[&new.clone().with_kid("es")]);
    assert_eq!(
        tokens.verify(&token, NOW).unwrap_err().reason,
        Reason::TokenSignature
    );
}

#[derive(Clone, Debug)]
struct Variant {
    leeway: u64,
    audience: bool,
    require: bool,
    until: Option<i64>,
    /// Which of two secrets, or of four key sets; `None` leaves that entry out.
    secret: Option<usize>,
    set: Option<usize>,
}

fn variant() -> impl Strategy<Value = Variant> {
    (
        prop_oneof![Just(0_u64), Just(5), Just(30)],
        any::<bool>(),
        any::<bool>(),
        proptest::option::of(-40_i64..40),
        proptest::option::of(0_usize..2),
        proptest::option::of(0_usize..4),
    )
        .prop_map(|(leeway, audience, require, until, secret, set)| Variant {
            leeway,
            audience,
            require,
            until,
            secret,
            set,
        })
}

impl Variant {
    fn entries(&self, sets: &[String]) -> Vec<TokenIssuer> {
        let secret = self.secret.map(|which| {
            let secret = if which == 0 {
                SECRET.to_owned()
            } else {
                "b".repeat(64)
            };
            entry(&[Algorithm::HS256], KeySource::Secret(Secret::new(secret)))
        });
        let set = self
            .set
            .map(|which| entry(&[Algorithm::ES256], set_source(&sets[which])));
        let mut entries: Vec<_> = secret.into_iter().chain(set).collect();
        for entry in &mut entries {
            entry.leeway = Duration::from_secs(self.leeway);
            entry.until = self.until.map(|until| NOW + until);
            if !self.audience {
                entry.audience = vec!["other".to_owned()];
            }
            if self.require {
                entry.require = vec![("aal".to_owned(), vec!["aal2".to_owned()])];
            }
        }
        entries
    }
}

/// Key sets of a rotation, and the tokens that meet them.
fn sets_and_tokens() -> &'static (Vec<String>, Vec<String>) {
    static MADE: OnceLock<(Vec<String>, Vec<String>)> = OnceLock::new();
    MADE.get_or_init(|| {
        let one = signer(Algorithm::ES256);
        let two = Signer::generate(Algorithm::ES256).unwrap().with_kid("two");
        let impostor = two.clone().with_kid("es");
        let [one_jwk, two_jwk, impostor] =
            [&one, &two, &impostor].map(|signer| signer.public_jwk().unwrap());
        let sets = vec![
            set_of(std::slice::from_ref(&one_jwk)),
            set_of(&[one_jwk, two_jwk.clone()]),
            set_of(&[two_jwk]),
            set_of(&[impostor]),
        ];
        let short = claims().expiring(NOW + 10);
        let late = claims().aal(2).with("nbf", NOW + 10).expiring(NOW + 30);
        let mut tokens = Vec::new();
        for claims in [short, late] {
            tokens.push(hs256().sign(&claims).unwrap());
            tokens.push(one.sign(&claims).unwrap());
            // Without `kid`: valid with one key in the set, ambiguous with two.
            let header = r#"{"alg":"ES256"}"#;
            let payload = Value::Object(claims.as_object().clone()).to_string();
            tokens.push(one.sign_raw(header, &payload).unwrap());
        }
        (sets, tokens)
    })
}

fn subject(outcome: Result<Presented, Denial>) -> Result<String, Reason> {
    match outcome {
        Ok(Presented::User(user)) => Ok(format!("{user:?} {:?} {}", user.claims(), user.subject())),
        Ok(Presented::Nobody) => Ok(String::new()),
        Err(denial) => Err(denial.reason),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_remembered_answer_is_the_answer_of_verifying_again(
        steps in proptest::collection::vec((variant(), 0_usize..6, -50_i64..50), 1..24)
    ) {
        let (sets, texts) = sets_and_tokens();
        let cache = new_cache();
        for (variant, text, shift) in steps {
            let entries = variant.entries(sets);
            let cached = with_cache(&entries, &cache);
            // Twice, so that a hit right after the insertion is compared too.
            for now in [NOW + shift, NOW + shift, NOW + shift / 2] {
                prop_assert_eq!(
                    subject(cached.verify(&texts[text], now)),
                    subject(tokens(&entries).verify(&texts[text], now))
                );
            }
        }
    }
}
