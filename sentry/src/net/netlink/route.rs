//! What does the kernel answer to a routing request? LINUX: net/core/rtnetlink.c.

use linux_abi::Errno;
use linux_abi::net::{IfAddrMsg, IfInfoMsg, family};
use zerocopy::FromBytes;

use super::message::{Builder, Message, NLM_F_ACK, NLM_F_DUMP, NLM_F_MULTI, NLM_F_REQUEST, attribute};
use crate::net::interfaces::{
    IFLA_IFNAME, Interfaces, RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
};

/// Lower types are of netlink itself.
const NLMSG_MIN_TYPE: u16 = 0x10;
/// First type that is none of routing. LINUX: `RTM_MAX`.
const RTM_MAX: u16 = 123;
/// Of the four types of a group, those ending so read.
const GET: u16 = 2;
const IFLA_ALT_IFNAME: u16 = 53;

/// The datagrams that answer one message; `port` is the asker's.
pub fn answer(interfaces: &Interfaces, message: &Message<'_>, port: u32, is_strict: bool) -> Vec<Vec<u8>> {
    let header = message.header;
    let mut builder = Builder::new(header, port);
    let is_request = header.flags & NLM_F_REQUEST != 0 && header.kind >= NLMSG_MIN_TYPE;
    let is_dump = header.kind & 3 == GET && header.flags & NLM_F_DUMP != 0;
    if is_request && is_dump && header.kind <= RTM_MAX {
        dump(interfaces, message, is_strict, &mut builder);
        return builder.finish();
    }
    let result = if is_request { get(interfaces, message, &mut builder) } else { Ok(()) };
    match result {
        Err(errno) => builder.put_error(errno.raw(), message.body),
        Ok(()) if header.flags & NLM_F_ACK != 0 => builder.put_error(0, message.body),
        Ok(()) => {}
    }
    builder.finish()
}

fn dump(interfaces: &Interfaces, message: &Message<'_>, is_strict: bool, builder: &mut Builder) {
    let wanted = message.body.first().copied().unwrap_or(0);
    let is_wanted = |body: &[u8]| wanted == 0 || body.first() == Some(&wanted);
    let is_any_link = [family::AF_UNSPEC, family::AF_INET, family::AF_INET6, family::AF_PACKET]
        .iter()
        .any(|&family| u16::from(wanted) == family);
    let index = IfAddrMsg::read_from_prefix(message.body).map_or(0, |(head, _)| head.index);
    let is_on = |body: &[u8]| {
        let there = IfAddrMsg::read_from_prefix(body).map_or(0, |(head, _)| head.index);
        !is_strict || index == 0 || there == index
    };
    match message.header.kind {
        RTM_GETLINK if is_any_link => {
            for body in &interfaces.links {
                builder.put(RTM_NEWLINK, NLM_F_MULTI, body);
            }
        }
        RTM_GETADDR => {
            for body in interfaces.addresses.iter().filter(|body| is_wanted(body) && is_on(body)) {
                builder.put(RTM_NEWADDR, NLM_F_MULTI, body);
            }
        }
        RTM_GETROUTE => {
            for body in interfaces.routes.iter().filter(|body| is_wanted(body)) {
                builder.put(RTM_NEWROUTE, NLM_F_MULTI, body);
            }
        }
        // Neighbours, rules and the like: there are none to be told of.
        _ => {}
    }
    builder.put_done();
}

fn get(interfaces: &Interfaces, message: &Message<'_>, builder: &mut Builder) -> Result<(), Errno> {
    let kind = message.header.kind;
    if kind > RTM_MAX {
        return Err(Errno::EOPNOTSUPP);
    }
    if kind & 3 != GET {
        return Err(Errno::EPERM);
    }
    if kind != RTM_GETLINK {
        return Err(Errno::EOPNOTSUPP);
    }
    let (info, rest) = IfInfoMsg::read_from_prefix(message.body).map_err(|_| Errno::EINVAL)?;
    let name = attribute(rest, IFLA_IFNAME).or_else(|| attribute(rest, IFLA_ALT_IFNAME)).unwrap_or_default();
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    if info.index <= 0 && name.is_empty() {
        return Err(Errno::EINVAL);
    }
    let body = interfaces.link_body(info.index, name).ok_or(Errno::ENODEV)?;
    builder.put(RTM_NEWLINK, 0, body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use linux_abi::net::NlMsgHdr;
    use zerocopy::IntoBytes;

    use super::super::message::{NLMSG_DONE, NLMSG_ERROR, messages, put_attribute};
    use super::*;

    fn ask(kind: u16, flags: u16, body: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let header = NlMsgHdr { len: 0, kind, flags, seq: 1, pid: 0 };
        let answers = answer(&Interfaces::default(), &Message { header, body }, 9, false);
        let all = answers.iter().flat_map(|datagram| messages(datagram));
        all.map(|message| (message.header.kind, message.body.to_vec())).collect()
    }

    fn error_of((kind, body): &(u16, Vec<u8>)) -> i32 {
        assert_eq!(*kind, NLMSG_ERROR);
        i32::read_from_prefix(body).unwrap().0
    }

    #[test]
    fn dumps_tell_all_and_end() {
        let kinds = |kind, body: &[u8]| ask(kind, 0x301, body).into_iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(kinds(RTM_GETLINK, &[0; 16]), [RTM_NEWLINK, NLMSG_DONE]);
        assert_eq!(kinds(RTM_GETADDR, &[0; 8]), [RTM_NEWADDR, RTM_NEWADDR, NLMSG_DONE]);
        assert_eq!(kinds(RTM_GETADDR, &[10, 0, 0, 0, 0, 0, 0, 0]), [RTM_NEWADDR, NLMSG_DONE]);
        assert_eq!(kinds(RTM_GETROUTE, &[]), [NLMSG_DONE]);
    }

    #[test]
    fn a_link_is_found_by_index_and_by_name() {
        let by_index = IfInfoMsg { index: 1, ..IfInfoMsg::default() };
        assert_eq!(ask(RTM_GETLINK, 1, by_index.as_bytes())[0].0, RTM_NEWLINK);
        let mut by_name = IfInfoMsg::default().as_bytes().to_vec();
        put_attribute(&mut by_name, IFLA_IFNAME, b"lo\0");
        let answers = ask(RTM_GETLINK, 5, &by_name);
        assert_eq!((answers[0].0, error_of(&answers[1])), (RTM_NEWLINK, 0));
        let missing = IfInfoMsg { index: 77, ..IfInfoMsg::default() };
        assert_eq!(error_of(&ask(RTM_GETLINK, 1, missing.as_bytes())[0]), -Errno::ENODEV.raw());
    }

    #[test]
    fn changes_and_nonsense_are_refused() {
        assert_eq!(error_of(&ask(RTM_NEWLINK, 5, &[0; 16])[0]), -Errno::EPERM.raw());
        assert_eq!(error_of(&ask(999, 1, &[])[0]), -Errno::EOPNOTSUPP.raw());
        assert_eq!(error_of(&ask(RTM_GETLINK, 1, &[0; 3])[0]), -Errno::EINVAL.raw());
        assert!(ask(RTM_GETLINK, 0, &[]).is_empty());
    }
}
