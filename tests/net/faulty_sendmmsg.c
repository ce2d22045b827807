/* Preloaded into a process, this makes the kernel refuse what says so: a datagram "errno=11" fails with error 11, as a
 * full buffer, a firewall or a missing route would have it, and those before it are sent. For test_burst.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int (*real)(int, struct mmsghdr *, unsigned, int) =
        (int (*)(int, struct mmsghdr *, unsigned, int))dlsym(RTLD_NEXT, "sendmmsg");
    for (unsigned at = 0; at < count; at++) {
        const char *data = messages[at].msg_hdr.msg_iov->iov_base;
        if (messages[at].msg_hdr.msg_iov->iov_len > 6 && memcmp(data, "errno=", 6) == 0) {
            if (at > 0)
                return real(fd, messages, at, flags);
            errno = atoi(data + 6);
            return -1;
        }
    }
    return real(fd, messages, count, flags);
}
