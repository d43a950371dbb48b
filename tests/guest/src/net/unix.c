// How do AF_UNIX sockets carry bytes, messages, descriptors and credentials?
#include "../harness.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    return address;
}

static int listen_at(const char *path, int type, int backlog) {
    struct sockaddr_un address = address_of(path);
    int fd = CHECK_OK(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    CHECK_OK(bind(fd, (struct sockaddr *)&address, sizeof address));
    if (type != SOCK_DGRAM)
        CHECK_OK(listen(fd, backlog));
    return fd;
}

static int connect_to(const char *path, int type) {
    struct sockaddr_un address = address_of(path);
    int fd = CHECK_OK(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    CHECK_OK(connect(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static void make_pair(int type, int pair[2]) { CHECK_OK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair)); }

TEST(unix_stream_socketpair_is_a_two_way_byte_stream) {
    int pair[2];
    char text[16] = "";
    make_pair(SOCK_STREAM, pair);
    CHECK_EQ(write(pair[0], "ab", 2), 2);
    CHECK_EQ(write(pair[0], "cd", 2), 2);
    CHECK_EQ(read(pair[1], text, 16), 4);
    CHECK_STR(text, "abcd");
    CHECK_EQ(write(pair[1], "back", 4), 4);
    CHECK_EQ(read(pair[0], text, 16), 4);
    CHECK_OK(close(pair[1]));
    CHECK_EQ(read(pair[0], text, 16), 0);
}

TEST(unix_datagrams_keep_boundaries_and_truncate) {
    int pair[2];
    char text[16] = "";
    make_pair(SOCK_DGRAM, pair);
    CHECK_EQ(send(pair[0], "first", 5, 0), 5);
    CHECK_EQ(send(pair[0], "", 0, 0), 0);
    CHECK_EQ(send(pair[0], "second", 6, 0), 6);
    CHECK_EQ(recv(pair[1], text, 3, MSG_TRUNC), 5);
    CHECK_EQ(recv(pair[1], text, 16, 0), 0);
    CHECK_EQ(recv(pair[1], text, 16, 0), 6);
}

TEST(unix_seqpacket_keeps_boundaries_and_tells_the_end) {
    int pair[2];
    char text[16];
    make_pair(SOCK_SEQPACKET, pair);
    CHECK_EQ(send(pair[0], "one", 3, 0), 3);
    CHECK_EQ(send(pair[0], "three", 5, 0), 5);
    CHECK_EQ(recv(pair[1], text, 16, 0), 3);
    CHECK_EQ(recv(pair[1], text, 2, 0), 2);
    CHECK_OK(close(pair[0]));
    CHECK_EQ(recv(pair[1], text, 16, 0), 0);
}

TEST(unix_stream_connects_by_path) {
    int listener = listen_at("sock", SOCK_STREAM, 5);
    struct stat status;
    CHECK_OK(stat("sock", &status));
    CHECK(S_ISSOCK(status.st_mode));
    int client = connect_to("sock", SOCK_STREAM);
    int server = CHECK_OK(accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    CHECK_EQ(fcntl(server, F_GETFD), FD_CLOEXEC);
    CHECK(fcntl(server, F_GETFL) & O_NONBLOCK);
    char text[8] = "";
    CHECK_ERR(read(server, text, 8), EAGAIN);
    CHECK_EQ(write(client, "hello", 5), 5);
    CHECK_EQ(read(server, text, 8), 5);
    CHECK_STR(text, "hello");
}

TEST(unix_names_are_told_by_getsockname_and_getpeername) {
    int listener = listen_at("sock", SOCK_STREAM, 5), client = connect_to("sock", SOCK_STREAM);
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    int server = CHECK_OK(accept(listener, (struct sockaddr *)&address, &length));
    CHECK_EQ(length, sizeof(sa_family_t)); // the client has no name
    length = sizeof address;
    CHECK_OK(getsockname(server, (struct sockaddr *)&address, &length));
    CHECK_STR(address.sun_path, "sock");
    length = sizeof address;
    CHECK_OK(getpeername(client, (struct sockaddr *)&address, &length));
    CHECK_STR(address.sun_path, "sock");
    CHECK_EQ(length, offsetof(struct sockaddr_un, sun_path) + 5);
    CHECK_ERR(getpeername(listener, (struct sockaddr *)&address, &length), ENOTCONN);
}

TEST(unix_bind_twice_is_eaddrinuse) {
    int listener = listen_at("sock", SOCK_STREAM, 5);
    struct sockaddr_un address = address_of("sock");
    int other = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(bind(other, (struct sockaddr *)&address, sizeof address), EADDRINUSE);
    CHECK_OK(close(listener));
    CHECK_ERR(bind(other, (struct sockaddr *)&address, sizeof address), EADDRINUSE);
    CHECK_OK(unlink("sock"));
    CHECK_OK(bind(other, (struct sockaddr *)&address, sizeof address));
}

TEST(unix_connect_errors) {
    struct sockaddr_un none = address_of("none"), left = address_of("left"), wrong = address_of("dgram");
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(fd, (struct sockaddr *)&none, sizeof none), ENOENT);
    CHECK_OK(close(listen_at("left", SOCK_STREAM, 1)));
    CHECK_ERR(connect(fd, (struct sockaddr *)&left, sizeof left), ECONNREFUSED);
    listen_at("dgram", SOCK_DGRAM, 0);
    CHECK_ERR(connect(fd, (struct sockaddr *)&wrong, sizeof wrong), EPROTOTYPE);
    make_file("file", "x");
    struct sockaddr_un file = address_of("file");
    CHECK_ERR(connect(fd, (struct sockaddr *)&file, sizeof file), ECONNREFUSED);
    CHECK_ERR(connect(fd, (struct sockaddr *)&none, 1), EINVAL);
}

static struct sockaddr_un abstract_name(socklen_t *length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int count = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "gt.%d", getpid());
    *length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + count);
    return address;
}

TEST(unix_abstract_name_needs_no_file_and_goes_with_its_socket) {
    socklen_t length;
    struct sockaddr_un address = abstract_name(&length);
    int listener = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_OK(bind(listener, (struct sockaddr *)&address, length));
    CHECK_OK(listen(listener, 1));
    CHECK_OK(connect(client, (struct sockaddr *)&address, length));
    CHECK_OK(accept(listener, NULL, NULL));
    CHECK_OK(close(listener));
    int late = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(late, (struct sockaddr *)&address, length), ECONNREFUSED);
}

TEST(unix_autobind_gives_an_abstract_name) {
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    CHECK_OK(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)));
    socklen_t length = sizeof address;
    CHECK_OK(getsockname(fd, (struct sockaddr *)&address, &length));
    CHECK_EQ(length, sizeof(sa_family_t) + 6);
    CHECK_EQ(address.sun_path[0], 0);
}

TEST(unix_datagram_sendto_names_its_sender) {
    int receiver = listen_at("to", SOCK_DGRAM, 0), sender = listen_at("from", SOCK_DGRAM, 0);
    struct sockaddr_un to = address_of("to"), from;
    socklen_t length = sizeof from;
    char text[8] = "";
    CHECK_EQ(sendto(sender, "hi", 2, 0, (struct sockaddr *)&to, sizeof to), 2);
    CHECK_EQ(recvfrom(receiver, text, 8, 0, (struct sockaddr *)&from, &length), 2);
    CHECK_STR(from.sun_path, "from");
    CHECK_ERR(send(sender, "hi", 2, 0), ENOTCONN);
}

// Sends one byte with control data of this type and content.
static ssize_t send_control(int fd, int type, const void *data, size_t length) {
    char control[256] __attribute__((aligned(8))) = {0};
    struct iovec vector = {"c", 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = CMSG_SPACE(length);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(header), data, length);
    return sendmsg(fd, &message, 0);
}

// Receives one byte; the first control message's data is copied. Its type, or 0 for none.
static int receive_control(int fd, void *data, size_t length, int flags, int *result_flags) {
    char control[256] __attribute__((aligned(8))), byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control};
    message.msg_controllen = sizeof control;
    CHECK_EQ(recvmsg(fd, &message, flags), 1);
    *result_flags = message.msg_flags;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header)
        return 0;
    CHECK_EQ(header->cmsg_level, SOL_SOCKET);
    CHECK(header->cmsg_len <= CMSG_LEN(length));
    memcpy(data, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
    return header->cmsg_type;
}

TEST(scm_rights_passes_open_files) {
    int pair[2], got[2] = {-1, -1}, flags;
    make_pair(SOCK_STREAM, pair);
    make_file("f", "passed on");
    int fd = CHECK_OK(open("f", O_RDONLY));
    CHECK_EQ(lseek(fd, 7, SEEK_SET), 7);
    pid_t pid = IN_CHILD(int fds[2] = {fd, pair[0]}; CHECK_EQ(send_control(pair[0], SCM_RIGHTS, fds, sizeof fds), 1));
    CHECK_OK(close(fd));
    CHECK_EQ(receive_control(pair[1], got, sizeof got, MSG_CMSG_CLOEXEC, &flags), SCM_RIGHTS);
    char text[8] = "";
    CHECK_EQ(read(got[0], text, 8), 2);
    CHECK_STR(text, "on");
    CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
    CHECK_OK(fcntl(got[1], F_GETFD));
    CHECK_EXITS(pid, 0);
}

TEST(scm_rights_of_a_bad_descriptor_is_ebadf) {
    int pair[2], bad = 250;
    make_pair(SOCK_STREAM, pair);
    CHECK_ERR(send_control(pair[0], SCM_RIGHTS, &bad, sizeof bad), EBADF);
}

TEST(scm_rights_keeps_the_file_alive_in_flight) {
    int pair[2], ends[2], got = -1, flags;
    make_pair(SOCK_DGRAM, pair);
    CHECK_OK(pipe(ends));
    CHECK_EQ(send_control(pair[0], SCM_RIGHTS, &ends[1], sizeof(int)), 1);
    CHECK_OK(close(ends[1]));
    struct pollfd poller = {ends[0], POLLIN, 0};
    CHECK_EQ(poll(&poller, 1, 0), 0);
    CHECK_EQ(receive_control(pair[1], &got, sizeof got, 0, &flags), SCM_RIGHTS);
    CHECK_EQ(write(got, "alive", 5), 5);
    CHECK_OK(close(got));
    CHECK_EQ(poll(&poller, 1, 1000), 1);
}

TEST(scm_rights_without_room_is_msg_ctrunc) {
    int pair[2], fd = 0;
    char byte;
    make_pair(SOCK_STREAM, pair);
    CHECK_EQ(send_control(pair[0], SCM_RIGHTS, &fd, sizeof fd), 1);
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    CHECK_EQ(recvmsg(pair[1], &message, 0), 1);
    CHECK(message.msg_flags & MSG_CTRUNC);
}

TEST(scm_credentials_are_those_of_the_sender) {
    int pair[2], on = 1, flags;
    make_pair(SOCK_DGRAM, pair);
    CHECK_OK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on));
    pid_t pid = IN_CHILD(CHECK_OK(setresgid(7, 7, 7)); CHECK_OK(setresuid(8, 8, 8)); CHECK_EQ(write(pair[0], "x", 1), 1));
    struct ucred credentials;
    CHECK_EQ(receive_control(pair[1], &credentials, sizeof credentials, 0, &flags), SCM_CREDENTIALS);
    CHECK_EQ(credentials.pid, pid);
    CHECK_EQ(credentials.uid, 8);
    CHECK_EQ(credentials.gid, 7);
    CHECK_EXITS(pid, 0);
}

TEST(scm_credentials_may_not_be_forged_by_a_user) {
    int pair[2];
    make_pair(SOCK_DGRAM, pair);
    become_nobody();
    struct ucred forged = {.pid = getpid(), .uid = 0, .gid = 0};
    CHECK_ERR(send_control(pair[0], SCM_CREDENTIALS, &forged, sizeof forged), EPERM);
}

TEST(so_peercred_tells_who_connected) {
    int listener = listen_at("sock", SOCK_STREAM, 1);
    CHECK_OK(chmod("sock", 0777));
    struct gate done;
    gate_init(&done);
    pid_t pid = IN_CHILD(become_nobody(); connect_to("sock", SOCK_STREAM); gate_wait(&done));
    int server = CHECK_OK(accept(listener, NULL, NULL));
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    CHECK_OK(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &credentials, &length));
    CHECK_EQ(credentials.pid, pid);
    CHECK_EQ(credentials.uid, 65534);
    gate_open(&done);
    CHECK_EXITS(pid, 0);
}

TEST(unix_connect_needs_write_permission) {
    listen_at("sock", SOCK_STREAM, 1);
    CHECK_OK(chmod("sock", 0755));
    struct sockaddr_un address = address_of("sock");
    become_nobody();
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(connect(fd, (struct sockaddr *)&address, sizeof address), EACCES);
}

TEST(shutdown_write_is_end_of_file_for_the_peer) {
    int pair[2];
    char text[8];
    make_pair(SOCK_STREAM, pair);
    CHECK_EQ(write(pair[0], "x", 1), 1);
    CHECK_OK(shutdown(pair[0], SHUT_WR));
    CHECK_EQ(read(pair[1], text, 8), 1);
    CHECK_EQ(read(pair[1], text, 8), 0);
    CHECK_ERR(send(pair[0], "y", 1, MSG_NOSIGNAL), EPIPE);
    CHECK_EQ(write(pair[1], "back", 4), 4);
    CHECK_EQ(read(pair[0], text, 8), 4);
    CHECK_ERR(shutdown(pair[0], 9), EINVAL);
}

TEST(shutdown_wakes_a_blocked_reader) {
    int pair[2];
    char byte;
    make_pair(SOCK_STREAM, pair);
    pid_t pid = IN_CHILD(CHECK_EQ(read(pair[0], &byte, 1), 0));
    wait_for_state(pid, 'S');
    CHECK_OK(shutdown(pair[0], SHUT_RD));
    CHECK_EXITS(pid, 0);
}

TEST(msg_peek_leaves_the_data) {
    int pair[2];
    char text[8] = "";
    make_pair(SOCK_STREAM, pair);
    CHECK_EQ(write(pair[0], "peek", 4), 4);
    CHECK_EQ(recv(pair[1], text, 8, MSG_PEEK), 4);
    CHECK_EQ(recv(pair[1], text, 8, 0), 4);
    CHECK_ERR(recv(pair[1], text, 8, MSG_DONTWAIT), EAGAIN);
}

TEST(msg_waitall_waits_for_the_whole_length) {
    int pair[2];
    char text[8] = "";
    make_pair(SOCK_STREAM, pair);
    pid_t parent = getpid();
    pid_t pid = IN_CHILD(CHECK_EQ(write(pair[0], "abc", 3), 3); wait_for_state(parent, 'S');
                         CHECK_EQ(write(pair[0], "def", 3), 3));
    CHECK_EQ(recv(pair[1], text, 6, MSG_WAITALL), 6);
    CHECK_STR(text, "abcdef");
    CHECK_EXITS(pid, 0);
}

TEST(unix_write_to_a_closed_peer_is_sigpipe_or_epipe) {
    int pair[2];
    make_pair(SOCK_STREAM, pair);
    CHECK_OK(close(pair[1]));
    pid_t pid = IN_CHILD((void)!write(pair[0], "x", 1));
    CHECK_KILLED(pid, SIGPIPE);
    CHECK_ERR(send(pair[0], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(unix_close_with_unread_data_is_econnreset) {
    int pair[2];
    char byte;
    make_pair(SOCK_STREAM, pair);
    CHECK_EQ(write(pair[0], "unread", 6), 6);
    CHECK_OK(close(pair[1]));
    CHECK_ERR(read(pair[0], &byte, 1), ECONNRESET);
    CHECK_EQ(read(pair[0], &byte, 1), 0);
}

TEST(unix_listen_backlog_bounds_waiting_connections) {
    int listener = listen_at("sock", SOCK_STREAM, 1);
    struct sockaddr_un address = address_of("sock");
    int refused = 0;
    for (int at = 0; at < 10 && !refused; at++) {
        int fd = CHECK_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == -1) {
            CHECK_EQ(errno, EAGAIN);
            refused = at;
        }
    }
    CHECK_EQ(refused, 2);
    CHECK_OK(accept(listener, NULL, NULL));
    connect_to("sock", SOCK_STREAM);
}

TEST(unix_stream_blocks_when_full) {
    int pair[2];
    static char block[65536];
    make_pair(SOCK_STREAM, pair);
    long total = 0;
    ssize_t done;
    while ((done = send(pair[0], block, sizeof block, MSG_DONTWAIT)) > 0)
        total += done;
    CHECK_EQ(errno, EAGAIN);
    CHECK(total >= 65536);
    struct pollfd poller = {pair[0], POLLOUT, 0};
    CHECK_EQ(poll(&poller, 1, 0), 0);
    pid_t pid = IN_CHILD(CHECK_EQ(send(pair[0], block, 1000, 0), 1000));
    wait_for_state(pid, 'S');
    for (long got = 0; got < total + 1000;)
        got += CHECK_OK(read(pair[1], block, sizeof block));
    CHECK_EXITS(pid, 0);
    CHECK_EQ(poll(&poller, 1, 0), 1);
}

TEST(socket_of_an_unknown_family_or_type_is_refused) {
    CHECK_ERR(socket(AF_UNIX, 99, 0), EINVAL);
    CHECK_ERR(socket(9999, SOCK_STREAM, 0), EAFNOSUPPORT);
    CHECK_ERR(socket(AF_UNIX, SOCK_STREAM, 7), EPROTONOSUPPORT);
    int pair[2];
    CHECK_ERR(socketpair(AF_INET, SOCK_STREAM, 0, pair), EOPNOTSUPP);
}

TEST(socket_calls_on_a_file_are_enotsock) {
    make_file("f", "x");
    int fd = CHECK_OK(open("f", O_RDONLY));
    CHECK_ERR(listen(fd, 1), ENOTSOCK);
    CHECK_ERR(send(fd, "x", 1, 0), ENOTSOCK);
    CHECK_ERR(accept(fd, NULL, NULL), ENOTSOCK);
    CHECK_ERR(shutdown(250, SHUT_RD), EBADF);
    int pair[2];
    make_pair(SOCK_STREAM, pair);
    CHECK_ERR(lseek(pair[0], 0, SEEK_SET), ESPIPE);
}

TEST(accept_on_a_socket_that_does_not_listen_is_einval) {
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_STREAM, 0));
    CHECK_ERR(accept(fd, NULL, NULL), EINVAL);
    int dgram = CHECK_OK(socket(AF_UNIX, SOCK_DGRAM, 0));
    CHECK_ERR(listen(dgram, 1), EOPNOTSUPP);
    CHECK_ERR(accept(dgram, NULL, NULL), EOPNOTSUPP);
}

TEST(socket_type_and_domain_are_told_by_getsockopt) {
    int fd = CHECK_OK(socket(AF_UNIX, SOCK_SEQPACKET, 0)), value = 0;
    socklen_t length = sizeof value;
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &length));
    CHECK_EQ(value, SOCK_SEQPACKET);
    CHECK_OK(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &length));
    CHECK_EQ(value, AF_UNIX);
    CHECK_ERR(getsockopt(fd, SOL_SOCKET, 9999, &value, &length), ENOPROTOOPT);
}

TEST(receive_timeout_is_eagain) {
    int pair[2];
    char byte;
    make_pair(SOCK_STREAM, pair);
    struct timeval time = {0, 20000};
    CHECK_OK(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time));
    long long start = now_ns();
    CHECK_ERR(read(pair[0], &byte, 1), EAGAIN);
    CHECK(now_ns() - start >= 15000000);
}
