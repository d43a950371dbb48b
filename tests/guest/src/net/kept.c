// Is an option that is taken also kept, and an operation that is answered also done?
#include "../harness.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

// Every option of SOL_SOCKET that a program sets is read back as it was set, or is refused.
static void expect_kept(int domain, int type) {
    static const int options[] = {
        SO_REUSEADDR, SO_REUSEPORT, SO_KEEPALIVE, SO_BROADCAST, SO_OOBINLINE, SO_DONTROUTE, SO_PRIORITY, SO_TIMESTAMP,
        SO_NO_CHECK, SO_PASSCRED, SO_DEBUG, SO_MARK, SO_RCVLOWAT, SO_TIMESTAMPNS, SO_BUSY_POLL, SO_RXQ_OVFL, SO_ZEROCOPY,
        SO_PASSSEC, SO_SELECT_ERR_QUEUE, SO_NOFCS, SO_LOCK_FILTER, SO_INCOMING_CPU,
    };
    for (size_t at = 0; at < sizeof options / sizeof *options; at++) {
        int fd = CHECK_OK(socket(domain, type, 0));
        int value = 1, got = -1;
        socklen_t length = sizeof got;
        if (setsockopt(fd, SOL_SOCKET, options[at], &value, sizeof value) == 0) {
            if (getsockopt(fd, SOL_SOCKET, options[at], &got, &length) == -1)
                guest_fail(__FILE__, __LINE__, "option %d is taken, but not told: errno %d", options[at], errno);
            if (got != value)
                guest_fail(__FILE__, __LINE__, "option %d is taken, and told as %d", options[at], got);
        }
        CHECK_OK(close(fd));
    }
}

TEST(options_of_udp_sockets_that_are_taken_are_kept) { expect_kept(AF_INET, SOCK_DGRAM); }
TEST(options_of_tcp_sockets_that_are_taken_are_kept) { expect_kept(AF_INET, SOCK_STREAM); }
TEST(options_of_unix_sockets_that_are_taken_are_kept) { expect_kept(AF_UNIX, SOCK_STREAM); }
TEST(options_of_netlink_sockets_that_are_taken_are_kept) { expect_kept(AF_NETLINK, SOCK_RAW); }

static ssize_t send_credentials(int fd, pid_t pid) {
    struct ucred claim = {pid, getuid(), getgid()};
    char control[CMSG_SPACE(sizeof claim)] = {0};
    struct iovec bytes = {"x", 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_CREDENTIALS;
    header->cmsg_len = CMSG_LEN(sizeof claim);
    memcpy(CMSG_DATA(header), &claim, sizeof claim);
    return sendmsg(fd, &message, 0);
}

TEST(credentials_name_a_process_that_is_there) {
    int pair[2];
    CHECK_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    CHECK_EQ(send_credentials(pair[0], getpid()), 1);
    pid_t gone = IN_CHILD();
    CHECK_EXITS(gone, 0);
    CHECK_ERR(send_credentials(pair[0], gone), ESRCH);
}

static int udp;
static struct gate reading;

static void *read_udp(void *argument) {
    char byte;
    gate_open(&reading);
    *(ssize_t *)argument = recv(udp, &byte, 1, 0);
    return NULL;
}

TEST(a_reader_of_udp_learns_that_reading_is_shut_down) {
    gate_init(&reading);
    udp = CHECK_OK(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK_OK(bind(udp, (struct sockaddr *)&address, length));
    CHECK_OK(getsockname(udp, (struct sockaddr *)&address, &length));
    CHECK_OK(connect(udp, (struct sockaddr *)&address, length));
    ssize_t got = -2;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, read_udp, &got), 0);
    gate_wait(&reading);
    sleep_ms(20);
    CHECK_OK(shutdown(udp, SHUT_RD));
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(got, 0);
    // The next one does not wait either, but for who will not wait nothing has changed.
    char byte;
    CHECK_EQ(recv(udp, &byte, 1, 0), 0);
    CHECK_ERR(recv(udp, &byte, 1, MSG_DONTWAIT), EAGAIN);
}

TEST(the_end_of_a_dump_is_not_lost_with_a_short_buffer) {
    int fd = CHECK_OK(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    struct {
        struct nlmsghdr header;
        struct rtgenmsg body;
    } request = {{sizeof request, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
    CHECK_EQ(send(fd, &request, sizeof request, 0), (ssize_t)sizeof request);
    for (;;) {
        struct nlmsghdr header;
        CHECK(recv(fd, &header, sizeof header, 0) > 0);
        if (header.nlmsg_type == NLMSG_DONE)
            break;
    }
}
