//! Rate limits that all replicas share: one script, which runs atomically and by the clock of
//! Redis. The arithmetic is explained in `store/limit.rs`.
//!
//! A bucket is a number that Redis changes itself, so it cannot be sealed: whoever can write to
//! Redis can raise their own limit, or deny service for as long as a bucket drains. Its name is
//! hidden like every other, under the first of `keys`; while keys are rotated, replicas with
//! different first keys count separately. All buckets share one hash tag, so that a script may
//! access several.

use fred::types::Value;

use super::Redis;
use super::command::script;
use super::log::texts;
use crate::store::contract::Unreachable;
use crate::store::limit::{Bucket, Level};
use crate::store::metrics::Command;

const ADMIT: &str = include_str!("admit.lua");

impl Redis {
    pub(super) async fn draw(&self, buckets: &[Bucket<'_>]) -> Result<Vec<Level>, Unreachable> {
        let names = buckets
            .iter()
            .map(|bucket| self.seals.bucket(bucket.name))
            .collect::<Option<Vec<String>>>()
            .ok_or(Unreachable::UnknownKey)?;
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let arguments = buckets
            .iter()
            .flat_map(|bucket| -> [Value; 3] {
                [
                    Value::from_static_str(bucket.draw.as_str()),
                    bucket.rate.micros().to_string().into(),
                    bucket.rate.burst.to_string().into(),
                ]
            })
            .collect();
        let call = || script(self.single(), ADMIT, &keys, arguments);
        let answer = texts(self.call(Command::Admit, call).await?)?;
        let levels: Vec<Level> = answer
            .chunks(2)
            .zip(buckets)
            .map(|(answer, bucket)| {
                let [is_admitted, used] = answer else {
                    return Err(Unreachable::Answer);
                };
                let used = used.parse().map_err(|_| Unreachable::Answer)?;
                Ok(bucket.rate.level(is_admitted == "1", used))
            })
            .collect::<Result<_, _>>()?;
        match levels.len() == buckets.len() {
            true => Ok(levels),
            false => Err(Unreachable::Answer),
        }
    }
}
