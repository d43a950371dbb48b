//! Which interfaces, addresses and routes does the sandbox's network namespace have?
//!
//! Key type: [`Interfaces`]: what the host's kernel told when the sandbox booted, as routing messages, which guests get as they
//! are. The sentry cannot ask again: its filter lets it open no netlink socket.

use linux_abi::net::{IfAddrMsg, IfInfoMsg, RtMsg, family, ioctl as request};
use linux_abi::{Errno, UserPtr};
use zerocopy::{FromBytes, IntoBytes};

use super::netlink::message::{attribute, messages, put_attribute};
use crate::task::Current;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_GETADDR: u16 = 22;
pub(super) const RTM_NEWROUTE: u16 = 24;
pub(super) const RTM_GETROUTE: u16 = 26;
pub(super) const IFLA_ADDRESS: u16 = 1;
const IFLA_BROADCAST: u16 = 2;
pub(super) const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RT_TABLE_MAIN: u8 = 254;
/// `IFF_UP | IFF_LOOPBACK | IFF_RUNNING | IFF_LOWER_UP`.
const LOOPBACK_FLAGS: u32 = 0x1_0049;
const ARPHRD_LOOPBACK: u16 = 772;
/// `IFA_F_PERMANENT`.
const PERMANENT: u8 = 0x80;
const SCOPE_HOST: u8 = 254;
/// Most routing messages of one kind that are kept.
const MESSAGES_MAX: usize = 4096;
/// Size of an interface's name, zero byte included.
const NAME_SIZE: usize = 16;
/// Size of `struct ifreq`.
const IFREQ: usize = 40;

/// Links, addresses and routes, each as the body of its routing message.
#[derive(Debug, Clone)]
pub struct Interfaces {
    pub(super) links: Vec<Vec<u8>>,
    pub(super) addresses: Vec<Vec<u8>>,
    pub(super) routes: Vec<Vec<u8>>,
}

impl Default for Interfaces {
    /// Only the loopback interface.
    fn default() -> Self {
        let info =
            IfInfoMsg { kind: ARPHRD_LOOPBACK, index: 1, flags: LOOPBACK_FLAGS, ..IfInfoMsg::default() };
        let mut link = info.as_bytes().to_vec();
        put_attribute(&mut link, IFLA_IFNAME, b"lo\0");
        put_attribute(&mut link, IFLA_TXQLEN, 1000u32.as_bytes());
        put_attribute(&mut link, IFLA_MTU, 65_536u32.as_bytes());
        put_attribute(&mut link, IFLA_ADDRESS, &[0; 6]);
        put_attribute(&mut link, IFLA_BROADCAST, &[0; 6]);
        let address = |family: u16, prefix_len: u8, bytes: &[u8]| {
            let family = u8::try_from(family).unwrap_or(0);
            let head = IfAddrMsg { family, prefix_len, flags: PERMANENT, scope: SCOPE_HOST, index: 1 };
            let mut body = head.as_bytes().to_vec();
            put_attribute(&mut body, IFA_ADDRESS, bytes);
            if bytes.len() == 4 {
                put_attribute(&mut body, IFA_LOCAL, bytes);
                put_attribute(&mut body, IFA_LABEL, b"lo\0");
            }
            body
        };
        let v6: [u8; 16] = 1u128.to_be_bytes();
        let addresses =
            vec![address(family::AF_INET, 8, &[127, 0, 0, 1]), address(family::AF_INET6, 128, &v6)];
        Self { links: vec![link], addresses, routes: Vec::new() }
    }
}

/// An interface taken out of its message.
struct Link<'a> {
    info: IfInfoMsg,
    attributes: &'a [u8],
}

impl<'a> Link<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let (info, attributes) = IfInfoMsg::read_from_prefix(body).ok()?;
        Some(Self { info, attributes })
    }

    fn name(&self) -> &'a [u8] {
        let name = attribute(self.attributes, IFLA_IFNAME).unwrap_or_default();
        name.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn number(&self, kind: u16) -> u32 {
        let value = attribute(self.attributes, kind).unwrap_or_default();
        u32::read_from_prefix(value).map_or(0, |(number, _)| number)
    }
}

/// The first IPv4 address of an interface: address, mask, broadcast.
type Inet = ([u8; 4], [u8; 4], [u8; 4]);

fn v4(bytes: &[u8], kind: u16) -> Option<[u8; 4]> {
    attribute(bytes, kind)?.try_into().ok()
}

impl Interfaces {
    /// Asks the host; only the loopback interface if that fails.
    #[must_use]
    pub fn learn() -> Self {
        let dump = |request: u16, answer: u16| {
            let bytes = platform::host::socket::route_dump(request).unwrap_or_default();
            let bodies = messages(&bytes).filter(|message| message.header.kind == answer);
            bodies.take(MESSAGES_MAX).map(|message| message.body.to_vec()).collect::<Vec<_>>()
        };
        let links = dump(RTM_GETLINK, RTM_NEWLINK);
        if links.is_empty() {
            return Self::default();
        }
        Self { links, addresses: dump(RTM_GETADDR, RTM_NEWADDR), routes: dump(RTM_GETROUTE, RTM_NEWROUTE) }
    }

    fn all(&self) -> impl Iterator<Item = Link<'_>> {
        self.links.iter().filter_map(|body| Link::of(body))
    }

    /// The message of the link with that index or, if it is not positive, that name.
    pub(super) fn link_body(&self, index: i32, name: &[u8]) -> Option<&[u8]> {
        let found = self.links.iter().find(|body| {
            Link::of(body).is_some_and(|link| {
                if index > 0 { link.info.index == index } else { !name.is_empty() && link.name() == name }
            })
        });
        found.map(Vec::as_slice)
    }

    fn inet(&self, index: i32) -> Option<Inet> {
        self.addresses.iter().find_map(|body| {
            let (head, rest) = IfAddrMsg::read_from_prefix(body).ok()?;
            let is_it = head.index == index.cast_unsigned() && u16::from(head.family) == family::AF_INET;
            let address = v4(rest, IFA_LOCAL).or_else(|| v4(rest, IFA_ADDRESS)).filter(|_| is_it)?;
            let mask = u32::MAX.checked_shl(32 - u32::from(head.prefix_len.min(32))).unwrap_or(0);
            let broadcast = v4(rest, IFA_BROADCAST).unwrap_or_default();
            Some((address, mask.to_be_bytes(), broadcast))
        })
    }

    /// `/proc/net/dev`; the counters are the host's secret.
    #[must_use]
    pub fn proc_dev(&self) -> String {
        let mut text = String::from(
            "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo \
             frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
        );
        for link in self.all() {
            let zeros = "       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0";
            text.push_str(&format!("{:>6}: {zeros}\n", String::from_utf8_lossy(link.name())));
        }
        text
    }

    /// `/proc/net/if_inet6`.
    #[must_use]
    pub fn proc_if_inet6(&self) -> String {
        let mut text = String::new();
        for body in &self.addresses {
            let Ok((head, rest)) = IfAddrMsg::read_from_prefix(body) else { continue };
            let address = attribute(rest, IFA_ADDRESS).unwrap_or_default();
            let index = i32::try_from(head.index).unwrap_or(0);
            let Some(link) = self.link_body(index, b"").and_then(Link::of) else { continue };
            if u16::from(head.family) != family::AF_INET6 || address.len() != 16 {
                continue;
            }
            let address: String = address.iter().map(|byte| format!("{byte:02x}")).collect();
            // LINUX: ipv6_addr_scope, not the scope of rtnetlink.
            let scope = match head.scope {
                SCOPE_HOST => 0x10,
                253 => 0x20,
                _ => 0,
            };
            let (prefix, flags, name) = (head.prefix_len, head.flags, String::from_utf8_lossy(link.name()));
            text.push_str(&format!("{address} {index:02x} {prefix:02x} {scope:02x} {flags:02x} {name:>8}\n"));
        }
        text
    }

    /// `/proc/net/route`.
    #[must_use]
    pub fn proc_route(&self) -> String {
        let mut text = String::from(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
        );
        for body in &self.routes {
            let Ok((head, rest)) = RtMsg::read_from_prefix(body) else { continue };
            let number = |kind| attribute(rest, kind).and_then(|value| u32::read_from_prefix(value).ok());
            let number = |kind| number(kind).map_or(0, |(number, _)| number);
            let index = i32::try_from(number(RTA_OIF)).unwrap_or(0);
            let Some(link) = self.link_body(index, b"").and_then(Link::of) else { continue };
            if u16::from(head.family) != family::AF_INET || head.table != RT_TABLE_MAIN {
                continue;
            }
            let mask = u32::MAX.checked_shl(32 - u32::from(head.dst_len.min(32))).unwrap_or(0).to_be();
            let gateway = number(RTA_GATEWAY);
            let flags = 1 | if gateway == 0 { 0 } else { 2 };
            let name = String::from_utf8_lossy(link.name());
            let (to, metric) = (number(RTA_DST), number(RTA_PRIORITY));
            text.push_str(&format!(
                "{name}\t{to:08X}\t{gateway:08X}\t{flags:04X}\t0\t0\t{metric}\t{mask:08X}\t0\t0\t0\n"
            ));
        }
        text
    }
}

/// `ioctl(2)` about interfaces, `netdevice(7)`.
///
/// # Errors
/// ENODEV; EADDRNOTAVAIL; EPERM for changes; ENOTTY for anything else.
pub fn ioctl(current: &mut Current, command: u32, arg: u64) -> Result<u64, Errno> {
    if command == request::SIOCGIFCONF {
        return list(current, arg);
    }
    if !(0x8910..=0x8970).contains(&command) {
        return Err(Errno::ENOTTY);
    }
    let mut ifreq: [u8; IFREQ] = current.read_object(UserPtr::new(arg))?;
    let network = std::sync::Arc::clone(&current.kernel().net);
    let answer = answer(&network.interfaces, command, &ifreq)?;
    if command == request::SIOCGIFNAME {
        ifreq[..NAME_SIZE].fill(0);
        ifreq[..answer.len()].copy_from_slice(&answer);
    } else {
        ifreq[NAME_SIZE..NAME_SIZE + answer.len()].copy_from_slice(&answer);
    }
    current.write_object(UserPtr::new(arg), &ifreq)?;
    Ok(0)
}

/// An IPv4 address as `struct sockaddr`.
fn sockaddr(address: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    bytes[..2].copy_from_slice(&family::AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address);
    bytes
}

/// What goes into a `struct ifreq`: its name for SIOCGIFNAME, else its other half, at most 24 bytes.
fn answer(interfaces: &Interfaces, command: u32, ifreq: &[u8; IFREQ]) -> Result<Vec<u8>, Errno> {
    let name = ifreq[..NAME_SIZE - 1].split(|&byte| byte == 0).next().unwrap_or_default();
    // LINUX: what follows a colon is an alias of the interface.
    let name = name.split(|&byte| byte == b':').next().unwrap_or_default();
    if command == request::SIOCGIFNAME {
        let index = i32::read_from_prefix(&ifreq[NAME_SIZE..]).map_or(0, |(index, _)| index);
        let body = interfaces.link_body(index, b"").filter(|_| index > 0).ok_or(Errno::ENODEV)?;
        let name = Link::of(body).map(|link| link.name()).unwrap_or_default();
        return Ok(name[..name.len().min(NAME_SIZE - 1)].to_vec());
    }
    let link = interfaces.link_body(0, name).and_then(Link::of).ok_or(Errno::ENODEV)?;
    let index = link.info.index;
    let inet = || interfaces.inet(index).ok_or(Errno::EADDRNOTAVAIL);
    Ok(match command {
        request::SIOCGIFINDEX => index.as_bytes().to_vec(),
        request::SIOCGIFFLAGS => link.info.flags.to_ne_bytes()[..2].to_vec(),
        request::SIOCGIFADDR | request::SIOCGIFDSTADDR => sockaddr(inet()?.0),
        request::SIOCGIFNETMASK => sockaddr(inet()?.1),
        request::SIOCGIFBRDADDR => sockaddr(inet()?.2),
        request::SIOCGIFMETRIC => 0i32.as_bytes().to_vec(),
        request::SIOCGIFMTU => link.number(IFLA_MTU).as_bytes().to_vec(),
        request::SIOCGIFTXQLEN => link.number(IFLA_TXQLEN).as_bytes().to_vec(),
        request::SIOCGIFHWADDR => {
            let hardware = attribute(link.attributes, IFLA_ADDRESS).unwrap_or_default();
            let mut bytes = link.info.kind.as_bytes().to_vec();
            bytes.extend_from_slice(&hardware[..hardware.len().min(14)]);
            bytes
        }
        _ => return Err(Errno::EPERM),
    })
}

/// `SIOCGIFCONF`: `struct ifconf { int len; struct ifreq *requests; }`.
fn list(current: &mut Current, arg: u64) -> Result<u64, Errno> {
    let [len, buffer]: [u64; 2] = current.read_object(UserPtr::new(arg))?;
    let room = usize::try_from(len & 0xffff_ffff).unwrap_or(0).min(i32::MAX as usize);
    let network = std::sync::Arc::clone(&current.kernel().net);
    let interfaces = &network.interfaces;
    let mut bytes = Vec::new();
    for link in interfaces.all() {
        let Some((address, ..)) = interfaces.inet(link.info.index) else { continue };
        let name = link.name();
        let mut ifreq = [0; IFREQ];
        let kept = name.len().min(NAME_SIZE - 1);
        ifreq[..kept].copy_from_slice(&name[..kept]);
        ifreq[NAME_SIZE..NAME_SIZE + 16].copy_from_slice(&sockaddr(address));
        bytes.extend_from_slice(&ifreq);
    }
    if buffer != 0 {
        bytes.truncate(room / IFREQ * IFREQ);
        current.write_user(buffer, &bytes)?;
    }
    let count = i32::try_from(bytes.len()).unwrap_or(0);
    current.write_object(UserPtr::new(arg), &count)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ifreq(name: &[u8]) -> [u8; IFREQ] {
        let mut bytes = [0; IFREQ];
        bytes[..name.len()].copy_from_slice(name);
        bytes
    }

    #[test]
    fn the_loopback_interface_is_always_there() {
        let it = Interfaces::default();
        assert_eq!(answer(&it, request::SIOCGIFINDEX, &ifreq(b"lo")), Ok(1i32.as_bytes().to_vec()));
        assert_eq!(answer(&it, request::SIOCGIFADDR, &ifreq(b"lo")).unwrap()[4..8], [127, 0, 0, 1]);
        assert_eq!(answer(&it, request::SIOCGIFNETMASK, &ifreq(b"lo")).unwrap()[4..8], [255, 0, 0, 0]);
        assert_eq!(answer(&it, request::SIOCGIFFLAGS, &ifreq(b"lo")), Ok(vec![0x49, 0]));
        assert_eq!(answer(&it, request::SIOCGIFINDEX, &ifreq(b"nosuch")), Err(Errno::ENODEV));
        assert_eq!(answer(&it, 0x8914, &ifreq(b"lo")), Err(Errno::EPERM));
        assert!(it.proc_if_inet6().starts_with("00000000000000000000000000000001 01 80 10 80"));
    }

    #[test]
    fn the_host_tells_of_its_interfaces() {
        let it = Interfaces::learn();
        assert!(it.link_body(0, b"lo").is_some_and(|body| attribute(&body[16..], IFLA_MTU).is_some()));
        assert!(it.proc_dev().contains("lo:"));
    }
}
