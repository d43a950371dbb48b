//! What a guest writes to sockets besides data: control messages, netlink requests, names. Random and nearly right bytes are
//! refused or understood; answers stay small. The sequence is the same in every run.

use linux_abi::net::NlMsgHdr;
use zerocopy::IntoBytes;

use super::interfaces::Interfaces;
use super::netlink::{message, route};
use super::{control, unix};
use crate::mm::tests::Dice;

/// Most bytes of answers to one request: a few datagrams.
const ANSWERS_MAX: usize = 1 << 20;

/// Bytes that are small numbers as often as noise: lengths that are nearly right upset more.
fn bytes(dice: &mut Dice, max: u64) -> Vec<u8> {
    let len = usize::try_from(dice.below(max)).expect("small");
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let word = [0, dice.below(24), 16, 0xffff_ffff, u64::from(u32::MAX) << 32 | 20, dice.next()];
        bytes.extend_from_slice(&word[usize::try_from(dice.below(6)).expect("small")].to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn control_messages_are_taken_apart_within_their_buffer() {
    let mut dice = Dice::new(1);
    for _ in 0..20_000 {
        let buffer = bytes(&mut dice, 400);
        if let Ok(found) = control::decode(&buffer) {
            assert!(found.iter().map(|message| 16 + message.data.len()).sum::<usize>() <= buffer.len());
        }
    }
}

#[test]
fn netlink_requests_are_answered_or_ignored() {
    let mut dice = Dice::new(2);
    let interfaces = Interfaces::default();
    for round in 0..20_000 {
        let mut request = bytes(&mut dice, 300);
        if round % 2 == 0 {
            // A right header before wrong attributes.
            let kind = 16 + u16::try_from(dice.below(110)).expect("small");
            let flags = u16::try_from(dice.below(0x800)).expect("small");
            let len = u32::try_from(16 + request.len()).expect("small");
            let header = NlMsgHdr { len, kind, flags, ..NlMsgHdr::default() };
            request.splice(0..0, header.as_bytes().iter().copied());
        }
        for message in message::messages(&request) {
            assert!(message.body.len() <= request.len());
            assert!(message::attributes(message.body).count() <= message.body.len());
            let answers = route::answer(&interfaces, &message, 1, round % 3 == 0);
            assert!(answers.iter().map(Vec::len).sum::<usize>() < ANSWERS_MAX);
        }
    }
}

#[test]
fn names_of_unix_sockets_are_taken_apart() {
    let mut dice = Dice::new(3);
    for _ in 0..20_000 {
        let mut name = bytes(&mut dice, 140);
        if dice.below(2) == 0 && name.len() >= 2 {
            name[..2].copy_from_slice(&1_u16.to_ne_bytes());
        }
        let is_understood = unix::Address::parse(&name).is_ok();
        assert!(!is_understood || name.len() <= 110);
    }
}
