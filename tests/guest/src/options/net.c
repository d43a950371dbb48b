// What do options of sockets read as after they were set, and what do flags of single calls do? Compared with the host.
#include "../harness.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

struct option {
    const char *name;
    int level, number, value;
};
#define OPTION(level, name, value) {#name, level, name, value}

// An option's value before and after it was set.
static void tell(const char *kind, int domain, int type, const struct option *options, size_t count) {
    for (size_t at = 0; at < count; at++) {
        const struct option *option = &options[at];
        int fd = CHECK_OK(socket(domain, type, 0)), before[2] = {-7, 0}, after[2] = {-7, 0};
        socklen_t length = sizeof(int);
        if (getsockopt(fd, option->level, option->number, before, &length) != 0)
            before[0] = -errno;
        int set = setsockopt(fd, option->level, option->number, &option->value, sizeof(int)) == 0 ? 0 : -errno;
        length = sizeof(int);
        if (getsockopt(fd, option->level, option->number, after, &length) != 0)
            after[0] = -errno;
        row("%s %s: %d %d %d", kind, option->name, before[0], set, after[0]);
        CHECK_OK(close(fd));
    }
}
#define TELL(kind, domain, type, options) tell(kind, domain, type, options, sizeof options / sizeof *options)

static const struct option common[] = {
    OPTION(SOL_SOCKET, SO_BROADCAST, 1),   OPTION(SOL_SOCKET, SO_DONTROUTE, 1),    OPTION(SOL_SOCKET, SO_KEEPALIVE, 1),
    OPTION(SOL_SOCKET, SO_NO_CHECK, 1),    OPTION(SOL_SOCKET, SO_OOBINLINE, 1),    OPTION(SOL_SOCKET, SO_PRIORITY, 5),
    OPTION(SOL_SOCKET, SO_RCVBUF, 30000),  OPTION(SOL_SOCKET, SO_SNDBUF, 30000),   OPTION(SOL_SOCKET, SO_RCVLOWAT, 9),
    OPTION(SOL_SOCKET, SO_REUSEADDR, 1),   OPTION(SOL_SOCKET, SO_TIMESTAMP, 1),    OPTION(SOL_SOCKET, SO_TIMESTAMPNS, 1),
    OPTION(SOL_SOCKET, SO_TYPE, 1),        OPTION(SOL_SOCKET, SO_DOMAIN, 1),       OPTION(SOL_SOCKET, SO_PROTOCOL, 1),
    OPTION(SOL_SOCKET, SO_SNDLOWAT, 1),    OPTION(SOL_SOCKET, SO_ACCEPTCONN, 1),   OPTION(SOL_SOCKET, SO_ERROR, 1),
    OPTION(SOL_SOCKET, SO_RCVBUFFORCE, 9), OPTION(SOL_SOCKET, SO_SNDBUFFORCE, 9),
};
static const struct option inet[] = {OPTION(SOL_SOCKET, SO_REUSEPORT, 1)};
static const struct option ip[] = {
    OPTION(IPPROTO_IP, IP_TOS, 16),          OPTION(IPPROTO_IP, IP_TTL, 9),
    OPTION(IPPROTO_IP, IP_RECVERR, 1),       OPTION(IPPROTO_IP, IP_MTU_DISCOVER, 2),
    OPTION(IPPROTO_IP, IP_MULTICAST_LOOP, 0), OPTION(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1),
};
static const struct option ip_datagram[] = {
    OPTION(IPPROTO_IP, IP_PKTINFO, 1),         OPTION(IPPROTO_IP, IP_RECVTTL, 1),     OPTION(IPPROTO_IP, IP_RECVTOS, 1),
    OPTION(IPPROTO_IP, IP_RECVORIGDSTADDR, 1), OPTION(IPPROTO_IP, IP_MULTICAST_TTL, 3),
};
static const struct option ipv6[] = {
    OPTION(IPPROTO_IPV6, IPV6_V6ONLY, 1),         OPTION(IPPROTO_IPV6, IPV6_UNICAST_HOPS, 9),
    OPTION(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1),    OPTION(IPPROTO_IPV6, IPV6_RECVERR, 1),
    OPTION(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1),   OPTION(IPPROTO_IPV6, IPV6_TCLASS, 16),
    OPTION(IPPROTO_IPV6, IPV6_RECVTCLASS, 1),     OPTION(IPPROTO_IPV6, IPV6_MTU_DISCOVER, 2),
    OPTION(IPPROTO_IPV6, IPV6_DONTFRAG, 1),       OPTION(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 3),
    OPTION(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0),
};
static const struct option tcp[] = {
    OPTION(IPPROTO_TCP, TCP_NODELAY, 1),       OPTION(IPPROTO_TCP, TCP_CORK, 1),         OPTION(IPPROTO_TCP, TCP_KEEPIDLE, 9),
    OPTION(IPPROTO_TCP, TCP_KEEPINTVL, 9),     OPTION(IPPROTO_TCP, TCP_KEEPCNT, 9),      OPTION(IPPROTO_TCP, TCP_SYNCNT, 9),
    OPTION(IPPROTO_TCP, TCP_LINGER2, 9),       OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT, 9), OPTION(IPPROTO_TCP, TCP_QUICKACK, 0),
    OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT, 99), OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 99),
    OPTION(IPPROTO_TCP, TCP_FASTOPEN, 5),      OPTION(IPPROTO_TCP, TCP_MAXSEG, 800),
    OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP, 9000),
};

TEST(options_of_all_sockets) {
    TELL("unix stream", AF_UNIX, SOCK_STREAM, common);
    TELL("unix dgram", AF_UNIX, SOCK_DGRAM, common);
    TELL("tcp", AF_INET, SOCK_STREAM, common);
    TELL("udp", AF_INET, SOCK_DGRAM, common);
    TELL("tcp6", AF_INET6, SOCK_STREAM, common);
    TELL("tcp", AF_INET, SOCK_STREAM, inet);
    TELL("udp", AF_INET, SOCK_DGRAM, inet);
}

TEST(options_of_the_internet) {
    TELL("tcp", AF_INET, SOCK_STREAM, ip);
    TELL("udp", AF_INET, SOCK_DGRAM, ip);
    TELL("udp", AF_INET, SOCK_DGRAM, ip_datagram);
    TELL("udp6", AF_INET6, SOCK_DGRAM, ipv6);
    TELL("tcp", AF_INET, SOCK_STREAM, tcp);
}

TEST(options_of_several_words) {
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    char name[16] = "";
    socklen_t length = sizeof name;
    CHECK_OK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length));
    CHECK_OK(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name)));
    int udp = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    struct ip_mreqn group = {.imr_multiaddr.s_addr = htonl(0xe1010101), .imr_address.s_addr = htonl(INADDR_LOOPBACK)};
    row("IP_ADD_MEMBERSHIP: %d", setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    row("IP_ADD_MEMBERSHIP again: %d", setsockopt(udp, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0 ? 0 : errno);
    row("IP_DROP_MEMBERSHIP: %d", setsockopt(udp, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group));
    row("IP_DROP_MEMBERSHIP again: %d", setsockopt(udp, IPPROTO_IP, IP_DROP_MEMBERSHIP, &group, sizeof group) == 0 ? 0 : errno);
    struct in_addr interface = {htonl(INADDR_LOOPBACK)}, told = {0};
    row("IP_MULTICAST_IF: %d", setsockopt(udp, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface));
    length = sizeof told;
    CHECK_OK(getsockopt(udp, IPPROTO_IP, IP_MULTICAST_IF, &told, &length));
    CHECK_EQ(told.s_addr, interface.s_addr);
    char options[40];
    length = sizeof options;
    CHECK_OK(getsockopt(udp, IPPROTO_IP, IP_OPTIONS, options, &length));
    CHECK_EQ(length, 0);
    int udp6 = CHECK_OK(socket(AF_INET6, SOCK_DGRAM, 0)), lo = 1, index = 0;
    length = sizeof index;
    CHECK_OK(setsockopt(udp6, IPPROTO_IPV6, IPV6_MULTICAST_IF, &lo, sizeof lo));
    CHECK_OK(getsockopt(udp6, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, &length));
    CHECK_EQ(index, lo);
    struct ipv6_mreq group6 = {.ipv6mr_interface = 1};
    CHECK_EQ(inet_pton(AF_INET6, "ff01::7", &group6.ipv6mr_multiaddr), 1);
    CHECK_OK(setsockopt(udp6, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof group6));
    CHECK_OK(setsockopt(udp6, IPPROTO_IPV6, IPV6_DROP_MEMBERSHIP, &group6, sizeof group6));
    struct tcp_info info;
    length = sizeof info;
    CHECK_OK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length));
    CHECK_EQ(info.tcpi_state, TCP_CLOSE);
    struct linger linger = {1, 7}, kept = {0};
    length = sizeof kept;
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &kept, &length));
    CHECK(kept.l_onoff == 1 && kept.l_linger == 7);
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0));
}

TEST(time_limits_of_both_directions) {
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    struct timeval limit = {0, 20000}, kept;
    socklen_t length = sizeof kept;
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_SNDTIMEO, &kept, &length));
    CHECK_EQ(kept.tv_usec, 20000);
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &kept, &length));
    CHECK_EQ(kept.tv_usec, 20000);
    static const int names[] = {SO_SNDTIMEO_NEW, SO_RCVTIMEO_NEW};
    for (int at = 0; at < 2; at++) {
        int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
        CHECK_OK(setsockopt(fd, SOL_SOCKET, names[at], &limit, sizeof limit));
        CHECK_OK(getsockopt(fd, SOL_SOCKET, names[at], &kept, &length));
        CHECK_EQ(kept.tv_usec, 20000);
    }
    static char bytes[1 << 20];
    CHECK(send(pair[0], bytes, sizeof bytes, 0) < (ssize_t)sizeof bytes);
    CHECK_ERR(send(pair[0], bytes, 1, 0), EAGAIN);
    CHECK_ERR(recv(pair[0], bytes, 1, 0), EAGAIN);
}

TEST(a_datagram_says_when_it_came) {
    for (int kind = 0; kind < 2; kind++) {
        int pair[2], one = 1, option = kind == 0 ? SO_TIMESTAMP : SO_TIMESTAMPNS;
        CHECK_OK(socketpair(AF_UNIX, kind == 0 ? SOCK_DGRAM : SOCK_SEQPACKET, 0, pair));
        CHECK_OK(setsockopt(pair[1], SOL_SOCKET, option, &one, sizeof one));
        CHECK_EQ(send(pair[0], "x", 1, 0), 1);
        char byte, control[128];
        struct iovec piece = {&byte, 1};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
        struct cmsghdr *first = CMSG_FIRSTHDR(&message);
        CHECK(first != NULL);
        CHECK_EQ(first->cmsg_type, option);
        long told[2];
        memcpy(told, CMSG_DATA(first), sizeof told);
        CHECK(labs(told[0] - (long)time(NULL)) < 10);
        CHECK(told[1] < (kind == 0 ? 1000000 : 1000000000));
    }
}

static void *send_the_rest(void *argument) {
    sleep_ms(50);
    CHECK_EQ(send(*(int *)argument, "cdef", 4, 0), 4);
    return NULL;
}

TEST(a_stream_waits_for_as_much_as_it_was_told) {
    int pair[2], low = 4;
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    CHECK_EQ(send(pair[0], "ab", 2, 0), 2);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, send_the_rest, &pair[0]), 0);
    char bytes[8] = "";
    CHECK_EQ(recv(pair[1], bytes, sizeof bytes, 0), 6);
    CHECK_STR(bytes, "abcdef");
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(send(pair[0], "ab", 2, 0), 2);
    CHECK_EQ(recv(pair[1], bytes, sizeof bytes, MSG_DONTWAIT), 2);
    CHECK_EQ(send(pair[0], "ab", 2, 0), 2);
    CHECK_EQ(recv(pair[1], bytes, 2, 0), 2);
}

TEST(flags_of_messages) {
    int pair[2];
    char bytes[8];
    CHECK_OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    static const struct { const char *name; int flag; } flags[] = {
        {"MSG_CONFIRM", MSG_CONFIRM}, {"MSG_DONTROUTE", MSG_DONTROUTE}, {"MSG_EOR", MSG_EOR}, {"MSG_MORE", MSG_MORE},
        {"MSG_NOSIGNAL", MSG_NOSIGNAL}, {"MSG_ZEROCOPY", MSG_ZEROCOPY}, {"MSG_FASTOPEN", MSG_FASTOPEN},
        {"MSG_DONTWAIT", MSG_DONTWAIT}, {"MSG_BATCH", 0x40000},
    };
    for (size_t at = 0; at < sizeof flags / sizeof *flags; at++) {
        row("send %s: %zd", flags[at].name, send(pair[0], "abc", 3, flags[at].flag));
        row("recv after %s: %zd", flags[at].name, recv(pair[1], bytes, sizeof bytes, MSG_DONTWAIT));
    }
    struct mmsghdr messages[2];
    struct iovec piece = {bytes, 1};
    memset(messages, 0, sizeof messages);
    for (int at = 0; at < 2; at++)
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &piece, .msg_iovlen = 1};
    CHECK_EQ(send(pair[0], "x", 1, 0), 1);
    CHECK_EQ(recvmmsg(pair[1], messages, 2, MSG_WAITFORONE, NULL), 1);
}

TEST(two_sends_with_more_to_come_are_one_datagram) {
    int receiver = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0)), sender = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK_OK(bind(receiver, (struct sockaddr *)&address, length));
    CHECK_OK(getsockname(receiver, (struct sockaddr *)&address, &length));
    CHECK_OK(connect(sender, (struct sockaddr *)&address, length));
    CHECK_EQ(send(sender, "ab", 2, MSG_MORE), 2);
    CHECK_EQ(send(sender, "c", 1, MSG_CONFIRM | MSG_DONTWAIT | MSG_NOSIGNAL), 1);
    char bytes[8];
    CHECK_EQ(recv(receiver, bytes, sizeof bytes, 0), 3);
}

TEST(urgent_data_is_out_of_band) {
    int pair[2];
    local_tcp_pair(pair);
    CHECK_EQ(send(pair[0], "a", 1, 0), 1);
    CHECK_EQ(send(pair[0], "!", 1, MSG_OOB), 1);
    char byte = 0;
    int is_at_mark = 0;
    CHECK_EQ(recv(pair[1], &byte, 1, 0), 1);
    CHECK_EQ(byte, 'a');
    CHECK_OK(ioctl(pair[1], SIOCATMARK, &is_at_mark));
    CHECK_EQ(is_at_mark, 1);
    CHECK_EQ(recv(pair[1], &byte, 1, MSG_OOB), 1);
    CHECK_EQ(byte, '!');
}

TEST(requests_about_interfaces) {
    static const struct { const char *name; unsigned long number; } requests[] = {
        {"SIOCGIFADDR", SIOCGIFADDR}, {"SIOCGIFBRDADDR", SIOCGIFBRDADDR}, {"SIOCGIFDSTADDR", SIOCGIFDSTADDR},
        {"SIOCGIFHWADDR", SIOCGIFHWADDR}, {"SIOCGIFINDEX", SIOCGIFINDEX}, {"SIOCGIFMETRIC", SIOCGIFMETRIC},
        {"SIOCGIFMTU", SIOCGIFMTU}, {"SIOCGIFNETMASK", SIOCGIFNETMASK}, {"SIOCGIFFLAGS", SIOCGIFFLAGS},
    };
    int fd = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    for (size_t at = 0; at < sizeof requests / sizeof *requests; at++) {
        struct ifreq request = {.ifr_name = "lo"};
        int result = ioctl(fd, requests[at].number, &request) == 0 ? 0 : errno;
        row("%s: %d %08x", requests[at].name, result, *(unsigned *)((char *)&request.ifr_addr + (at < 3 || at == 7 ? 4 : 0)));
    }
    struct ifreq name = {.ifr_ifindex = 1};
    CHECK_OK(ioctl(fd, SIOCGIFNAME, &name));
    CHECK_STR(name.ifr_name, "lo");
    struct ifreq queue = {.ifr_name = "lo"};
    CHECK_OK(ioctl(fd, SIOCGIFTXQLEN, &queue));
    char space[4096];
    struct ifconf all = {.ifc_len = sizeof space, .ifc_buf = space};
    CHECK_OK(ioctl(fd, SIOCGIFCONF, &all));
    CHECK(all.ifc_len >= (int)sizeof(struct ifreq));
}

TEST(how_much_waits_in_a_socket) {
    int pair[2], waiting = 0;
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
    CHECK_OK(ioctl(pair[1], FIONREAD, &waiting));
    CHECK_EQ(waiting, 3);
    CHECK_OK(ioctl(pair[0], TIOCOUTQ, &waiting));
    CHECK(waiting >= 3);
    local_tcp_pair(pair);
    CHECK_EQ(send(pair[0], "abc", 3, 0), 3);
    while (waiting = 0, ioctl(pair[0], TIOCOUTQ, &waiting) == 0 && waiting != 0)
        sched_yield();
    CHECK_OK(ioctl(pair[1], FIONREAD, &waiting));
    CHECK_EQ(waiting, 3);
}

TEST(protocols_and_ends) {
    CHECK_OK(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP));
    CHECK_OK(socket(AF_INET, SOCK_STREAM, IPPROTO_TCP));
    CHECK_OK(socket(AF_INET, SOCK_STREAM, IPPROTO_IP));
    int pair[2];
    char byte;
    for (int how = SHUT_RD; how <= SHUT_RDWR; how++) {
        CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        CHECK_OK(shutdown(pair[0], how));
        row("send after shutdown %d: %zd", how, send(pair[0], "x", 1, MSG_NOSIGNAL));
        row("recv after shutdown %d: %zd", how, recv(pair[0], &byte, 1, MSG_DONTWAIT));
    }
    CHECK_EQ(SHUT_WR, 1);
}

TEST(groups_of_a_peer) {
    int pair[2];
    gid_t groups[64];
    socklen_t length = sizeof groups;
    CHECK_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, groups, &length));
    CHECK_EQ(length, getgroups(0, NULL) * (int)sizeof *groups);
    // Sockets that ping are the administrator's to allow.
    int ping = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    CHECK(ping != -1 || errno == EACCES);
}

TEST(options_of_netlink) {
    int fd = CHECK_OK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)), one = 1, group = RTNLGRP_LINK;
    CHECK_OK(setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof one));
    int told = 0;
    socklen_t length = sizeof told;
    CHECK_OK(getsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &told, &length));
    CHECK_EQ(told, 1);
    CHECK_OK(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group));
    unsigned groups = 0;
    length = sizeof groups;
    CHECK_OK(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, &groups, &length));
    CHECK_EQ(groups, 1);
    CHECK_OK(setsockopt(fd, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group));
    length = sizeof groups;
    CHECK_OK(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, &groups, &length));
    CHECK_EQ(groups, 0);
    static const int switches[] = {NETLINK_BROADCAST_ERROR, NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_NO_ENOBUFS, NETLINK_PKTINFO};
    for (size_t at = 0; at < sizeof switches / sizeof *switches; at++) {
        int set = setsockopt(fd, SOL_NETLINK, switches[at], &one, sizeof one) == 0 ? 0 : errno;
        length = sizeof told;
        told = -1;
        int got = getsockopt(fd, SOL_NETLINK, switches[at], &told, &length) == 0 ? 0 : errno;
        row("netlink option %d: %d %d %d", switches[at], set, got, told);
    }
}
