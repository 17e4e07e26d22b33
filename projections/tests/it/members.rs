//! Who belongs to the fleet, by whose word.

use crate::harness::{MINUTE, World, joined, machine};
use ledger::{Changes, State, StateContext};
use ledger_core::kinds::*;
use ledger_core::{Draft, LogId, SigningKey, Subject, digest};
use ledger_projections::{FleetState, members};

#[test]
fn the_founding_names_central_its_logs_and_the_operator() {
    let world = World::founded();
    let order = world.state.order().unwrap();
    assert_eq!((order.epoch, order.log, order.inert), (1, world.order, 0));
    assert!(world.state.is_central());
    let gateway = &world.nodes["gateway"];
    let row = world.state.machine(&machine("gateway")).unwrap();
    assert_eq!(
        (row.role, row.actor_key),
        (Role::Central, Some(gateway.actor.public()))
    );
    assert_eq!(
        world.state.own_log(ledger_core::Stream::Work),
        Some(gateway.logs[0])
    );
    let operator = Credential::Key(gateway.actor.public());
    assert_eq!(world.state.role_of(&operator, world.now), Some(Role::Operator));
    assert_eq!(world.state.name_of(&gateway.actor.public()), "operator");
}

#[test]
fn only_the_root_may_grant_and_nobody_in_its_name() {
    let mut world = World::founded();
    let granted = KeyGranted {
        credential: Credential::Key(SigningKey::from_seed([77; 32]).public()),
        name: "mallory".into(),
        role: Role::Operator,
        machine: None,
        may: Vec::new(),
        until: None,
    };
    let draft = Draft::of(&granted, Subject::new("k").unwrap());
    let (order, gateway) = (world.order, world.gateway_key());
    let by_central = world.seal(order, draft.clone(), &gateway);
    world.take(by_central);
    let operator = world.nodes["gateway"].actor.clone();
    let by_operator = world.seal(order, draft, &operator);
    world.take(by_operator);
    assert_eq!(world.state.credential(&granted.credential), None);
    assert_eq!(world.inert(), 2);
    world.rooted(&granted);
    assert_eq!(
        world.state.role_of(&granted.credential, world.now),
        Some(Role::Operator)
    );
}

#[test]
fn a_forged_root_signature_grants_nothing() {
    let mut world = World::founded();
    let granted = KeyGranted {
        credential: Credential::Token([3; 32]),
        name: "token".into(),
        role: Role::Reader,
        machine: None,
        may: Vec::new(),
        until: None,
    };
    // Central itself seals a statement that names the root as its author, signed by another key.
    let draft = Draft::of(&granted, Subject::new("k").unwrap());
    let id = ledger_core::ReceiptId::v7(9, [9; 10]);
    let authored = draft
        .into_statement(world.fleet, world.root.public(), id, world.now, [0; 32])
        .unwrap();
    let by = ledger_core::signature::sign_statement(&SigningKey::from_seed([50; 32]), &authored.digest);
    let last = world
        .journal
        .iter()
        .rfind(|r| r.log() == world.order)
        .unwrap()
        .clone();
    let seal = ledger_core::Seal {
        version: 1,
        log: world.order,
        seq: last.seq() + 1,
        prev: last.seal_digest(),
        time: last.time().tick(0),
        statement: authored.digest,
    };
    let signed = ledger_core::signature::sign_seal(&world.gateway_key(), &seal.digest());
    let record = ledger_core::Record::assemble(authored.statement, &authored.bytes, Some(by), seal, signed);
    world.take(ledger::Receipt {
        position: ledger::Position::START,
        record: std::sync::Arc::new(record),
    });
    assert_eq!(world.state.credential(&granted.credential), None);
    assert_eq!(world.inert(), 1);
}

#[test]
fn a_second_order_log_with_the_roots_words_does_not_found_the_fleet_anew() {
    let world = World::studio();
    // A store of studio that takes in the order, then studio's own logs, has the same fleet as the gateway.
    let context = StateContext {
        fleet: world.fleet,
        machine: machine("studio"),
        machine_key: world.nodes["studio"].key.public(),
    };
    let mut mirror = FleetState::empty(&context);
    for receipt in world.journal.iter().filter(|r| r.log() == world.order) {
        mirror.fold(receipt, &mut Changes::discarding());
    }
    assert_eq!(mirror.order(), world.state.order());
    assert!(!mirror.is_central());
    assert_eq!(
        mirror.machines().collect::<Vec<_>>(),
        world.state.machines().collect::<Vec<_>>()
    );
    let other = StateContext {
        fleet: ledger_core::FleetId([8; 32]),
        ..context
    };
    let mut stranger = FleetState::empty(&other);
    for receipt in &world.journal {
        stranger.fold(receipt, &mut Changes::discarding());
    }
    assert_eq!(
        stranger,
        FleetState::empty(&other),
        "another fleet's receipts are nothing here"
    );
}

#[test]
fn an_invitation_carries_one_join_of_its_role_in_its_time() {
    let mut world = World::founded();
    let code = [5; 16];
    let invited = KeyInvited {
        role: Role::Node,
        machine: None,
        code: digest::secret_digest(&code),
        until: world.now + MINUTE,
    };
    let invitation = world.rooted(&invited).id();
    let keys = [60, 61, 62].map(|seed| SigningKey::from_seed([seed; 32]));
    let logs = [LogId([1; 32]), LogId([2; 32]), LogId([3; 32])];
    let good = joined(invitation, "studio", &keys[0], &keys[1], keys[2].public(), logs);
    let code_of = |joined: &KeyJoined, code: &[u8], now| {
        members::join(&world.state, code, joined, now)
            .map(|_| "joined")
            .unwrap_or_else(|refusal| refusal.code())
    };
    assert_eq!(code_of(&good, &code, world.now), "joined");
    assert_eq!(code_of(&good, &[6; 16], world.now), "invitation.unknown");
    assert_eq!(code_of(&good, &code, world.now + MINUTE), "invitation.expired");
    let bad = KeyJoined {
        role: Role::Operator,
        ..good.clone()
    };
    assert_eq!(code_of(&bad, &code, world.now), "invitation.other");
    let bad = KeyJoined {
        machine: machine("gateway"),
        ..good.clone()
    };
    assert_eq!(code_of(&bad, &code, world.now), "machine.taken");
    let bad = KeyJoined {
        logs: [LogId([9; 32]); 3],
        ..good.clone()
    };
    assert_eq!(
        code_of(&bad, &code, world.now),
        "join.proof",
        "the proofs cover the logs"
    );
    let bad = KeyJoined {
        actor_key: world.gateway_key().public(),
        ..good.clone()
    };
    assert_eq!(code_of(&bad, &code, world.now), "join.keys");
    let drafts = members::join(&world.state, &code, &good, world.now).unwrap();
    world.decide(drafts);
    assert!(world.state.machine(&machine("studio")).is_some());
    assert_eq!(
        members::join(&world.state, &code, &good, world.now).unwrap(),
        [],
        "the same join again"
    );
    let other = [70, 71, 72].map(|seed| SigningKey::from_seed([seed; 32]));
    let again = joined(invitation, "mini", &other[0], &other[1], other[2].public(), logs);
    let refused = members::join(&world.state, &code, &again, world.now).unwrap_err();
    assert_eq!(refused.code(), "invitation.used");
}

#[test]
fn a_revoked_key_asks_for_nothing_any_more() {
    let mut world = World::studio();
    let actor = world.nodes["studio"].actor.public();
    let draft = Draft::of(
        &RequestReceived {
            spec: crate::harness::spec("render"),
        },
        Subject::new("r").unwrap(),
    );
    let (order, key) = (world.order, world.nodes["studio"].actor.clone());
    let request = world.seal(order, draft, &key);
    let request = world.take(request);
    let verdict = |world: &World| {
        world
            .state
            .authorise(request.statement(), ledger_core::Stream::Order, false, world.now)
    };
    assert_eq!(verdict(&world), Ok(()));
    let credential = Credential::Key(actor);
    world.rooted(&KeyRevoked {
        credential,
        cut: Vec::new(),
        reason: "left the house".into(),
    });
    assert_eq!(verdict(&world), Err(InadmissibleReason::NotPermitted));
    assert_eq!(world.state.role_of(&credential, world.now), None);
}

#[test]
fn a_grant_ends_when_it_says_and_its_patterns_add_to_its_role() {
    let mut world = World::studio();
    let key = SigningKey::from_seed([88; 32]);
    world.rooted(&KeyGranted {
        credential: Credential::Key(key.public()),
        name: "helper".into(),
        role: Role::Reader,
        machine: None,
        may: vec!["x.note.*".into()],
        until: Some(world.now + MINUTE),
    });
    let say = |kind: &str| {
        let draft = Draft::custom(ledger_core::Kind::new(kind).unwrap(), Subject::new("s").unwrap());
        let id = ledger_core::ReceiptId::v7(1, [1; 10]);
        draft
            .into_statement(world.fleet, key.public(), id, 0, [0; 32])
            .unwrap()
            .statement
    };
    let may = |kind, now| {
        world
            .state
            .authorise(&say(kind), ledger_core::Stream::Facts, false, now)
    };
    assert_eq!(may("x.note.day", world.now), Ok(()));
    assert_eq!(may("x.other", world.now), Err(InadmissibleReason::NotPermitted));
    assert!(may("x.note.day", world.now + MINUTE).is_err());
}

#[test]
fn a_new_epoch_needs_its_designation_and_the_lower_one_decides_nothing_any_more() {
    use ledger_core::{Head, Hlc, Record, Seal, SealDigest, TreeRoot, signature};
    use std::sync::Arc;
    let mut world = World::studio();
    let studio = world.nodes["studio"].key.clone();
    let designation = world
        .rooted(&CentralDesignated {
            machine: machine("studio"),
            machine_key: studio.public(),
            epoch_first: 2,
            epoch_last: 3,
        })
        .id();
    let old = world.state.order().unwrap().clone();
    let (log, genesis) = world.foreign_log(&studio, "studio", ledger_core::Stream::Order);
    let genesis = world.take(genesis);
    let started = |epoch| EpochStarted {
        epoch,
        log,
        previous: old.log,
        cut: Head {
            seq: old.head_seq,
            seal: old.head_seal,
            root: TreeRoot([0; 32]),
        },
        designation,
    };
    let seal_at_1 = |detail: &EpochStarted| {
        let draft = Draft::of(detail, Subject::new("e").unwrap());
        let id = ledger_core::ReceiptId::v7(7, [7; 10]);
        let authored = draft
            .into_statement(world.fleet, studio.public(), id, 0, [0; 32])
            .unwrap();
        let time = Hlc(genesis.time().0 + 1);
        let (prev, statement) = (genesis.seal_digest(), authored.digest);
        let seal = Seal {
            version: 1,
            log,
            seq: 1,
            prev,
            time,
            statement,
        };
        assert_ne!(seal.prev, SealDigest::ZERO);
        let signed = signature::sign_seal(&studio, &seal.digest());
        let record = Record::assemble(authored.statement, &authored.bytes, None, seal, signed);
        ledger::Receipt {
            position: ledger::Position::START,
            record: Arc::new(record),
        }
    };
    let (beyond, right) = (seal_at_1(&started(4)), seal_at_1(&started(2)));
    world.take(beyond);
    assert_eq!(
        world.state.order().unwrap().epoch,
        1,
        "epoch 4 is beyond the designation"
    );
    world.take(right);
    let now = world.state.order().unwrap();
    assert_eq!((now.epoch, now.log, &now.central), (2, log, &machine("studio")));
    let before = world.state.clone();
    let retired = NodeRetired {
        machine: machine("mini"),
        reason: String::new(),
    };
    world.rooted(&retired);
    assert_eq!(world.state, before, "the log of epoch 1 decides nothing any more");
}
