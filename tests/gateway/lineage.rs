//! Lineage: intact chains of parents, cycles, missing parents, and chains that are too long.

use foregate::denial::Reason;

use crate::support::world::new_id;
use crate::support::{Http, World};

#[tokio::test]
async fn a_chain_of_parents_must_be_intact_and_short_enough() {
    let world = World::new();
    let user = world.user();
    // From the first ancestor down: the last of `chain` has eleven ancestors.
    let mut chain = vec![world.generation(&user, None, None)];
    for index in 0..11 {
        let parent = chain[index].clone();
        chain.push(world.generation(&user, None, Some(&parent)));
    }
    let orphan = world.generation(&user, None, Some(&new_id()));
    let grandchild = world.generation(&user, None, Some(&orphan));
    let (one, other) = (
        world.generation(&user, None, None),
        world.generation(&user, None, None),
    );
    world.sql(&format!(
        "update generations set parent_generation_id = '{other}' where id = '{one}';
         update generations set parent_generation_id = '{one}' where id = '{other}'"
    ));
    let itself = world.generation(&user, None, None);
    world.sql(&format!(
        "update generations set parent_generation_id = id where id = '{itself}'"
    ));
    let below = world.generation(&user, None, Some(&one));
    let gateway = world.gateway().await;
    let token = gateway.issuer.token_of(&user);
    for http in Http::BOTH {
        for (id, reason) in [
            (&chain[0], None),
            (&chain[1], None),
            (&chain[10], None),
            (&chain[11], Some(Reason::LineageDeep)),
            (&orphan, Some(Reason::LineageMissing)),
            (&grandchild, Some(Reason::LineageMissing)),
            (&one, Some(Reason::LineageCycle)),
            (&itself, Some(Reason::LineageCycle)),
            (&below, Some(Reason::LineageCycle)),
        ] {
            let answer = gateway
                .get(http, &format!("/generations/{id}"))
                .bearer(&token)
                .send()
                .await;
            match reason {
                None => drop(answer.is_ok()),
                Some(reason) => {
                    answer.is_denied(reason);
                    gateway.origin.saw_nothing();
                }
            }
            gateway.origin.take();
        }
    }
}

#[tokio::test]
async fn a_caller_without_access_does_not_learn_that_a_chain_is_broken() {
    let world = World::new();
    let (user, stranger) = (world.user(), world.user());
    let orphan = world.generation(&user, None, Some(&new_id()));
    let gateway = world.gateway().await;
    for http in Http::BOTH {
        gateway
            .get(http, &format!("/generations/{orphan}"))
            .bearer(&gateway.issuer.token_of(&stranger))
            .send()
            .await
            .is_denied(Reason::NotYours);
        gateway.origin.saw_nothing();
    }
}
