// How do TCP and UDP behave over the loopback interface, v4 and v6?
#include "../harness.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static union address loopback(int family, int port) {
    union address address = {.any.sa_family = (sa_family_t)family};
    if (family == AF_INET) {
        address.v4.sin_port = htons((uint16_t)port);
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        address.v6.sin6_port = htons((uint16_t)port);
        address.v6.sin6_addr = in6addr_loopback;
    }
    return address;
}

static socklen_t length_of(int family) {
    return family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int port_of(int fd) {
    union address address;
    socklen_t length = sizeof address;
    CHECK_OK(getsockname(fd, &address.any, &length));
    return ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
}

static int bind_to(int family, int type, int port) {
    union address address = loopback(family, port);
    int fd = CHECK_OK(socket(family, type | SOCK_CLOEXEC, 0));
    CHECK_OK(bind(fd, &address.any, length_of(family)));
    return fd;
}

static int listen_on(int family) {
    int fd = bind_to(family, SOCK_STREAM, 0);
    CHECK_OK(listen(fd, 5));
    return fd;
}

static int connect_port(int family, int port) {
    union address address = loopback(family, port);
    int fd = CHECK_OK(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK_OK(connect(fd, &address.any, length_of(family)));
    return fd;
}

static void tcp_pair(int family, int pair[2]) {
    int listener = listen_on(family);
    pair[0] = connect_port(family, port_of(listener));
    pair[1] = (int)CHECK_OK(accept(listener, NULL, NULL));
    CHECK_OK(close(listener));
}

static void check_echo(int family) {
    int pair[2];
    char text[8] = "";
    tcp_pair(family, pair);
    CHECK_EQ(write(pair[0], "ping", 4), 4);
    CHECK_EQ(read(pair[1], text, 8), 4);
    CHECK_STR(text, "ping");
    CHECK_EQ(write(pair[1], "pong", 4), 4);
    CHECK_EQ(read(pair[0], text, 8), 4);
    CHECK_STR(text, "pong");
    CHECK_OK(close(pair[0]));
    CHECK_EQ(read(pair[1], text, 8), 0);
}

TEST(tcp_v4_connects_and_carries_bytes_both_ways) { check_echo(AF_INET); }
TEST(tcp_v6_connects_and_carries_bytes_both_ways) { check_echo(AF_INET6); }

TEST(tcp_names_agree_on_both_sides) {
    for (int family = AF_INET; family; family = family == AF_INET ? AF_INET6 : 0) {
        int listener = listen_on(family), client = connect_port(family, port_of(listener));
        union address address, peer;
        socklen_t length = sizeof address;
        int server = CHECK_OK(accept(listener, &address.any, &length));
        CHECK_EQ(length, length_of(family));
        CHECK_EQ(address.any.sa_family, family);
        CHECK_EQ(ntohs(address.v4.sin_port), port_of(client));
        length = sizeof peer;
        CHECK_OK(getpeername(client, &peer.any, &length));
        CHECK_EQ(ntohs(peer.v4.sin_port), port_of(listener));
        CHECK_EQ(port_of(server), port_of(listener));
    }
}

TEST(tcp_connect_to_a_closed_port_is_econnrefused) {
    int fd = bind_to(AF_INET, SOCK_STREAM, 0);
    union address address = loopback(AF_INET, port_of(fd));
    int client = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(connect(client, &address.any, sizeof address.v4), ECONNREFUSED);
}

TEST(tcp_bind_of_a_used_port_is_eaddrinuse) {
    int listener = listen_on(AF_INET);
    union address address = loopback(AF_INET, port_of(listener));
    int other = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_ERR(bind(other, &address.any, sizeof address.v4), EADDRINUSE);
    CHECK_ERR(bind(listener, &address.any, sizeof address.v4), EINVAL);
}

TEST(tcp_reuseaddr_binds_a_port_with_old_connections) {
    int listener = listen_on(AF_INET), port = port_of(listener), on = 1;
    // LINUX: both the old and the new socket must have asked for it.
    CHECK_OK(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    int client = connect_port(AF_INET, port), server = CHECK_OK(accept(listener, NULL, NULL));
    CHECK_OK(close(listener));
    CHECK_OK(close(server));
    char byte;
    CHECK_EQ(read(client, &byte, 1), 0);
    CHECK_OK(close(client));
    int again = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    CHECK_OK(setsockopt(again, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
    union address address = loopback(AF_INET, port);
    CHECK_OK(bind(again, &address.any, sizeof address.v4));
    CHECK_OK(listen(again, 1));
}

TEST(tcp_bind_to_a_foreign_address_is_eaddrnotavail) {
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    union address address = loopback(AF_INET, 0);
    address.v4.sin_addr.s_addr = inet_addr("192.0.2.1");
    CHECK_ERR(bind(fd, &address.any, sizeof address.v4), EADDRNOTAVAIL);
    CHECK_ERR(bind(fd, &address.any, 4), EINVAL);
    address.any.sa_family = AF_UNIX;
    CHECK_ERR(bind(fd, &address.any, sizeof address.v4), EAFNOSUPPORT);
}

TEST(tcp_options_are_kept) {
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0)), value = 1, got = 0;
    socklen_t length = sizeof got;
    CHECK_OK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, sizeof value));
    CHECK_OK(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &length));
    CHECK_EQ(got, 1);
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, sizeof value));
    got = 0;
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &got, &length));
    CHECK_EQ(got, 1);
    value = 17;
    CHECK_OK(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
    CHECK_OK(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &got, &length));
    CHECK_EQ(got, 17);
    struct linger linger = {1, 5}, back = {0, 0};
    length = sizeof back;
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_LINGER, &back, &length));
    CHECK_EQ(back.l_linger, 5);
    CHECK_ERR(setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, 1), EINVAL);
}

TEST(unbound_sockets_have_no_device_and_no_ip_options) {
    int fds[] = {socket(AF_INET, SOCK_STREAM, 0), socket(AF_INET6, SOCK_DGRAM, 0), socket(AF_UNIX, SOCK_STREAM, 0)};
    for (int at = 0; at < 3; at++) {
        char value[64];
        socklen_t length = sizeof value;
        CHECK_OK(getsockopt(fds[at], SOL_SOCKET, SO_BINDTODEVICE, value, &length));
        CHECK_EQ(length, 0);
        CHECK_OK(setsockopt(fds[at], SOL_SOCKET, SO_BINDTODEVICE, "", 1));
        CHECK_OK(setsockopt(fds[at], SOL_SOCKET, SO_BINDTODEVICE, value, 0));
    }
    char value[64];
    socklen_t length = sizeof value;
    CHECK_OK(getsockopt(fds[0], IPPROTO_IP, IP_OPTIONS, value, &length));
    CHECK_EQ(length, 0);
}

TEST(tcp_buffer_sizes_are_doubled) {
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0)), value = 30000, got = 0;
    socklen_t length = sizeof got;
    CHECK_OK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &value, sizeof value));
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &length));
    CHECK_EQ(got, 60000);
}

TEST(tcp_receive_timeout_is_eagain) {
    int pair[2];
    char byte;
    tcp_pair(AF_INET, pair);
    struct timeval time = {0, 20000};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    CHECK_ERR(read(pair[0], &byte, 1), EAGAIN);
}

TEST(tcp_nonblocking_connect_is_einprogress_then_writable) {
    int listener = listen_on(AF_INET);
    union address address = loopback(AF_INET, port_of(listener));
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    if (connect(fd, &address.any, sizeof address.v4) == -1)
        CHECK_EQ(errno, EINPROGRESS);
    struct pollfd poller = {fd, POLLOUT, 0};
    CHECK_EQ(poll(&poller, 1, 10000), 1);
    CHECK_EQ(poller.revents, POLLOUT);
    int error = -1;
    socklen_t length = sizeof error;
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    CHECK_EQ(error, 0);
    (void)connect(fd, &address.any, sizeof address.v4); // LINUX: may tell the success once more
    CHECK_ERR(connect(fd, &address.any, sizeof address.v4), EISCONN);
}

TEST(tcp_nonblocking_connect_failure_is_told_by_so_error) {
    int closed = bind_to(AF_INET, SOCK_STREAM, 0);
    union address address = loopback(AF_INET, port_of(closed));
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), error = 0;
    if (connect(fd, &address.any, sizeof address.v4) == -1 && errno == ECONNREFUSED)
        return; // at once is allowed
    struct pollfd poller = {fd, POLLOUT, 0};
    CHECK_EQ(poll(&poller, 1, 10000), 1);
    CHECK(poller.revents & POLLERR);
    socklen_t length = sizeof error;
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    CHECK_EQ(error, ECONNREFUSED);
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length));
    CHECK_EQ(error, 0);
}

TEST(tcp_half_close_keeps_the_other_direction) {
    int pair[2];
    char text[8] = "";
    tcp_pair(AF_INET, pair);
    CHECK_EQ(write(pair[0], "request", 7), 7);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    CHECK_EQ(read(pair[1], text, 8), 7);
    CHECK_EQ(read(pair[1], text, 8), 0);
    CHECK_EQ(write(pair[1], "answer", 6), 6);
    CHECK_EQ(read(pair[0], text, 8), 6);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(tcp_poll_tells_half_close) {
    int pair[2];
    tcp_pair(AF_INET, pair);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    struct pollfd poller = {pair[1], POLLIN | POLLRDHUP, 0};
    CHECK_EQ(poll(&poller, 1, 10000), 1);
    CHECK_EQ(poller.revents, POLLIN | POLLRDHUP);
}

TEST(tcp_reset_is_econnreset) {
    int pair[2];
    char byte;
    tcp_pair(AF_INET, pair);
    struct linger linger = {1, 0};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    CHECK_OK(close(pair[0]));
    CHECK_ERR(read(pair[1], &byte, 1), ECONNRESET);
    CHECK_EQ(read(pair[1], &byte, 1), 0);
    CHECK_ERR(send(pair[1], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(tcp_write_after_reset_is_sigpipe) {
    int pair[2];
    tcp_pair(AF_INET, pair);
    CHECK_OK(shutdown(pair[1], SHUT_WR));
    pid_t pid = IN_CHILD((void)!write(pair[1], "x", 1));
    CHECK_KILLED(pid, SIGPIPE);
}

TEST(tcp_peek_dontwait_and_waitall) {
    int pair[2];
    char text[8] = "";
    tcp_pair(AF_INET, pair);
    CHECK_ERR(recv(pair[1], text, 8, MSG_DONTWAIT), EAGAIN);
    CHECK_EQ(write(pair[0], "abcd", 4), 4);
    CHECK_EQ(recv(pair[1], text, 4, MSG_WAITALL | MSG_PEEK), 4);
    CHECK_EQ(recv(pair[1], text, 4, MSG_WAITALL), 4);
    CHECK_STR(text, "abcd");
}

TEST(tcp_unread_bytes_are_counted_by_fionread) {
    int pair[2], count = -1;
    char text[8];
    tcp_pair(AF_INET, pair);
    CHECK_EQ(write(pair[0], "12345", 5), 5);
    CHECK_EQ(recv(pair[1], text, 5, MSG_WAITALL | MSG_PEEK), 5);
    CHECK_OK(ioctl(pair[1], FIONREAD, &count));
    CHECK_EQ(count, 5);
}

TEST(tcp_megabytes_arrive_in_order) {
    enum { SIZE = 4 << 20 };
    int pair[2];
    tcp_pair(AF_INET, pair);
    unsigned char *bytes = malloc(SIZE);
    for (int at = 0; at < SIZE; at++)
        bytes[at] = (unsigned char)(at * 17 + at / 1000);
    pid_t pid = IN_CHILD(size_t done = 0; while (done < SIZE) done += CHECK_OK(write(pair[0], bytes + done, SIZE - done)));
    CHECK_OK(close(pair[0]));
    unsigned char *got = malloc(SIZE);
    size_t done = 0;
    ssize_t length;
    while ((length = CHECK_OK(read(pair[1], got + done, SIZE - done))) > 0)
        done += (size_t)length;
    CHECK_EQ(done, SIZE);
    CHECK(memcmp(bytes, got, SIZE) == 0);
    CHECK_EXITS(pid, 0);
}

TEST(tcp_accept_blocks_until_a_client_comes) {
    int listener = listen_on(AF_INET), port = port_of(listener);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(wait_for_state(parent, 'S'); connect_port(AF_INET, port));
    CHECK_OK(accept(listener, NULL, NULL));
    CHECK_EXITS(pid, 0);
    CHECK_OK(fcntl(listener, F_SETFL, O_NONBLOCK));
    CHECK_ERR(accept(listener, NULL, NULL), EAGAIN);
}

TEST(tcp_v6_socket_accepts_v4_unless_v6only) {
    int fd = CHECK_OK(socket(AF_INET6, SOCK_STREAM, 0)), off = 0;
    CHECK_OK(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    union address address = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any}};
    CHECK_OK(bind(fd, &address.any, sizeof address.v6));
    CHECK_OK(listen(fd, 1));
    connect_port(AF_INET, port_of(fd));
    socklen_t length = sizeof address;
    CHECK_OK(accept(fd, &address.any, &length));
    CHECK(IN6_IS_ADDR_V4MAPPED(&address.v6.sin6_addr));
}

TEST(tcp_info_tells_an_established_connection) {
    int pair[2];
    tcp_pair(AF_INET, pair);
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    CHECK_OK(getsockopt(pair[0], IPPROTO_TCP, TCP_INFO, &info, &length));
    CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
    int accepting = -1;
    length = sizeof accepting;
    CHECK_OK(getsockopt(pair[0], SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length));
    CHECK_EQ(accepting, 0);
}

static void check_datagrams(int family) {
    int receiver = bind_to(family, SOCK_DGRAM, 0), sender = bind_to(family, SOCK_DGRAM, 0);
    union address to = loopback(family, port_of(receiver)), from;
    socklen_t length = sizeof from;
    char text[16] = "";
    CHECK_EQ(sendto(sender, "one", 3, 0, &to.any, length_of(family)), 3);
    CHECK_EQ(sendto(sender, "second", 6, 0, &to.any, length_of(family)), 6);
    CHECK_EQ(recvfrom(receiver, text, 16, 0, &from.any, &length), 3);
    CHECK_EQ(ntohs(from.v4.sin_port), port_of(sender));
    CHECK_EQ(recv(receiver, text, 2, MSG_TRUNC), 6);
    CHECK_ERR(recv(receiver, text, 2, MSG_DONTWAIT), EAGAIN);
}

TEST(udp_v4_sends_datagrams_and_tells_the_sender) { check_datagrams(AF_INET); }
TEST(udp_v6_sends_datagrams_and_tells_the_sender) { check_datagrams(AF_INET6); }

TEST(udp_connected_socket_filters_and_needs_no_address) {
    int first = bind_to(AF_INET, SOCK_DGRAM, 0), second = bind_to(AF_INET, SOCK_DGRAM, 0);
    int stranger = bind_to(AF_INET, SOCK_DGRAM, 0);
    union address to_first = loopback(AF_INET, port_of(first)), to_second = loopback(AF_INET, port_of(second));
    char text[8] = "";
    CHECK_OK(connect(first, &to_second.any, sizeof to_second.v4));
    CHECK_EQ(sendto(stranger, "no", 2, 0, &to_first.any, sizeof to_first.v4), 2);
    CHECK_EQ(sendto(second, "yes", 3, 0, &to_first.any, sizeof to_first.v4), 3);
    CHECK_EQ(recv(first, text, 8, 0), 3);
    CHECK_STR(text, "yes");
    CHECK_EQ(send(first, "back", 4, 0), 4);
    CHECK_EQ(recv(second, text, 8, 0), 4);
    union address none = {.any.sa_family = AF_UNSPEC};
    CHECK_OK(connect(first, &none.any, sizeof none.any));
    CHECK_ERR(send(first, "x", 1, 0), EDESTADDRREQ);
}

TEST(udp_to_a_closed_port_is_econnrefused_later) {
    int closed = bind_to(AF_INET, SOCK_DGRAM, 0);
    union address address = loopback(AF_INET, port_of(closed));
    CHECK_OK(close(closed));
    int fd = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(connect(fd, &address.any, sizeof address.v4));
    CHECK_EQ(send(fd, "x", 1, 0), 1);
    char byte;
    CHECK_ERR(recv(fd, &byte, 1, 0), ECONNREFUSED);
}

TEST(udp_sendmmsg_and_recvmmsg_carry_many) {
    int receiver = bind_to(AF_INET, SOCK_DGRAM, 0), sender = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    union address to = loopback(AF_INET, port_of(receiver));
    CHECK_OK(connect(sender, &to.any, sizeof to.v4));
    char out[3][8] = {"a", "bb", "ccc"}, in[4][8] = {{0}};
    struct iovec vectors[4];
    struct mmsghdr messages[4] = {{{0}, 0}};
    for (int at = 0; at < 3; at++) {
        vectors[at] = (struct iovec){out[at], (size_t)at + 1};
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &vectors[at], .msg_iovlen = 1};
    }
    CHECK_EQ(sendmmsg(sender, messages, 3, 0), 3);
    CHECK_EQ(messages[2].msg_len, 3);
    for (int at = 0; at < 4; at++) {
        vectors[at] = (struct iovec){in[at], 8};
        messages[at].msg_hdr = (struct msghdr){.msg_iov = &vectors[at], .msg_iovlen = 1};
    }
    CHECK_EQ(recvmmsg(receiver, messages, 4, MSG_DONTWAIT, NULL), 3);
    CHECK_STR(in[1], "bb");
    CHECK_EQ(messages[2].msg_len, 3);
}

TEST(udp_datagram_that_is_too_long_is_emsgsize) {
    static char block[66000];
    int receiver = bind_to(AF_INET, SOCK_DGRAM, 0);
    union address to = loopback(AF_INET, port_of(receiver));
    CHECK_ERR(sendto(receiver, block, sizeof block, 0, &to.any, sizeof to.v4), EMSGSIZE);
    CHECK_EQ(sendto(receiver, block, 60000, 0, &to.any, sizeof to.v4), 60000);
    CHECK_EQ(recv(receiver, block, sizeof block, 0), 60000);
}

TEST(interface_lo_has_an_index_and_a_name) {
    char name[IF_NAMESIZE];
    unsigned index = if_nametoindex("lo");
    CHECK(index > 0);
    CHECK(if_indextoname(index, name) != NULL);
    CHECK_STR(name, "lo");
    CHECK_EQ(if_nametoindex("nosuch0"), 0);
}

TEST(siocgifconf_lists_lo) {
    struct ifreq requests[16];
    struct ifconf list = {.ifc_len = sizeof requests, .ifc_req = requests};
    int fd = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    CHECK_OK(ioctl(fd, SIOCGIFCONF, &list));
    bool found = false;
    for (int at = 0; at < list.ifc_len / (int)sizeof *requests; at++)
        found |= !strcmp(requests[at].ifr_name, "lo");
    CHECK(found);
    struct ifreq request = {.ifr_name = "lo"};
    CHECK_OK(ioctl(fd, SIOCGIFFLAGS, &request));
    CHECK((request.ifr_flags & (IFF_UP | IFF_LOOPBACK)) == (IFF_UP | IFF_LOOPBACK));
}

TEST(getifaddrs_lists_the_loopback_addresses) {
    struct ifaddrs *list;
    CHECK_OK(getifaddrs(&list));
    bool v4 = false;
    for (struct ifaddrs *at = list; at; at = at->ifa_next)
        if (at->ifa_addr && at->ifa_addr->sa_family == AF_INET && !strcmp(at->ifa_name, "lo"))
            v4 |= ((struct sockaddr_in *)at->ifa_addr)->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
    CHECK(v4);
    freeifaddrs(list);
}

TEST(low_port_by_a_user_is_eacces) {
    char text[32];
    read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof text);
    if (atoi(text) <= 81)
        return; // open to all here
    become_nobody();
    int fd = CHECK_OK(socket(AF_INET, SOCK_STREAM, 0));
    union address address = loopback(AF_INET, 81);
    CHECK_ERR(bind(fd, &address.any, sizeof address.v4), EACCES);
}

TEST(raw_socket_by_a_user_is_eperm) {
    become_nobody();
    CHECK_ERR(socket(AF_INET, SOCK_RAW, IPPROTO_TCP), EPERM);
    CHECK_ERR(socket(AF_PACKET, SOCK_RAW, 0), EPERM);
}
