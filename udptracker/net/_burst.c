/* Turns of datagrams with one system call each, for burst.py, which says what the methods promise and has their plain
 * twin. A handle is the bytes of a socket address, followed by those of the packet info where the socket asks for it
 * (ip(7), ipv6(7)): only this file reads them. Nothing here blocks, so the interpreter lock is kept. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { TURN = 64, BYTES = 16 + 20 * 128, CONTROL = CMSG_SPACE(sizeof(struct in6_pktinfo)) };

typedef union { struct cmsghdr align; char bytes[CONTROL]; } Control;

typedef struct {
    PyObject_HEAD
    int fd;
    int is_v6;
    size_t info_bytes; /* of packet info in a handle, 0 for none */
    unsigned long long unanswerable;
    char (*data)[BYTES];
} Burst;

static size_t address_bytes(const Burst *self)
{
    return self->is_v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static int burst_init(Burst *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "is_v6", "packet_info", NULL};
    int packet_info;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ipp", names, &self->fd, &self->is_v6, &packet_info))
        return -1;
    self->info_bytes = !packet_info ? 0 : self->is_v6 ? sizeof(struct in6_pktinfo) : sizeof(struct in_pktinfo);
    if (self->data == NULL && (self->data = PyMem_Malloc((size_t)TURN * BYTES)) == NULL)
        PyErr_NoMemory();
    return self->data == NULL ? -1 : 0;
}

static void burst_dealloc(Burst *self)
{
    PyMem_Free(self->data);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* The packed address of a sender: 4 bytes also for an IPv4-mapped one, else 16. */
static PyObject *packed_source(const Burst *self, const struct sockaddr_in6 *from)
{
    if (!self->is_v6)
        return PyBytes_FromStringAndSize((const char *)&((const struct sockaddr_in *)from)->sin_addr, 4);
    int skipped = IN6_IS_ADDR_V4MAPPED(&from->sin6_addr) ? 12 : 0;
    return PyBytes_FromStringAndSize((const char *)&from->sin6_addr + skipped, 16 - skipped);
}

static PyObject *packed_handle(const Burst *self, const struct sockaddr_in6 *from, struct msghdr *header)
{
    size_t address = address_bytes(self);
    PyObject *handle = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(address + self->info_bytes));
    if (handle == NULL)
        return NULL;
    char *at = PyBytes_AS_STRING(handle);
    memcpy(at, from, address);
    memset(at + address, 0, self->info_bytes);
    struct cmsghdr *control = self->info_bytes ? CMSG_FIRSTHDR(header) : NULL;
    if (control != NULL && control->cmsg_len >= CMSG_LEN(self->info_bytes)) {
        if (self->is_v6) {
            memcpy(at + address, CMSG_DATA(control), self->info_bytes);
        } else { /* the address that was asked; interface 0 leaves the way back to the routing table */
            struct in_pktinfo asked, info = {0};
            memcpy(&asked, CMSG_DATA(control), sizeof asked);
            info.ipi_spec_dst = asked.ipi_spec_dst;
            memcpy(at + address, &info, sizeof info);
        }
    }
    return handle;
}

static PyObject *burst_receive(Burst *self, PyObject *Py_UNUSED(ignored))
{
    struct mmsghdr messages[TURN];
    struct iovec vectors[TURN];
    struct sockaddr_in6 from[TURN];
    Control controls[TURN];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < TURN; i++) {
        vectors[i] = (struct iovec){self->data[i], BYTES};
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &from[i];
        messages[i].msg_hdr.msg_namelen = sizeof from[i];
        if (self->info_bytes) {
            messages[i].msg_hdr.msg_control = controls[i].bytes;
            messages[i].msg_hdr.msg_controllen = CONTROL;
        }
    }
    int count = recvmmsg(self->fd, messages, TURN, MSG_DONTWAIT, NULL);
    if (count < 0 && errno != EAGAIN && errno != EINTR)
        return PyErr_SetFromErrno(PyExc_OSError);
    PyObject *turn = PyList_New(0);
    for (int i = 0; turn != NULL && i < count; i++) {
        if (from[i].sin6_port == 0) { /* at the same place in both families: nobody can answer there */
            self->unanswerable++;
            continue;
        }
        PyObject *datagram = PyTuple_New(3);
        if (datagram != NULL) {
            PyTuple_SET_ITEM(datagram, 0, PyBytes_FromStringAndSize(self->data[i], messages[i].msg_len));
            PyTuple_SET_ITEM(datagram, 1, packed_source(self, &from[i]));
            PyTuple_SET_ITEM(datagram, 2, packed_handle(self, &from[i], &messages[i].msg_hdr));
        }
        if (PyErr_Occurred() || PyList_Append(turn, datagram) < 0)
            Py_CLEAR(turn);
        Py_XDECREF(datagram);
    }
    return turn;
}

/* Points a message at a reply; -1 with an exception if it is not one. The list of replies keeps its bytes alive. */
static int point_at(const Burst *self, PyObject *reply, struct mmsghdr *message, struct iovec *vector, Control *control)
{
    size_t address = address_bytes(self);
    PyObject *data = PyTuple_Check(reply) && PyTuple_GET_SIZE(reply) == 2 ? PyTuple_GET_ITEM(reply, 0) : NULL;
    PyObject *handle = data ? PyTuple_GET_ITEM(reply, 1) : NULL;
    if (!data || !PyBytes_Check(data) || !PyBytes_Check(handle) ||
        (size_t)PyBytes_GET_SIZE(handle) != address + self->info_bytes) {
        PyErr_SetString(PyExc_TypeError, "expected (bytes, handle of this socket)");
        return -1;
    }
    char *name = PyBytes_AS_STRING(handle);
    *vector = (struct iovec){PyBytes_AS_STRING(data), (size_t)PyBytes_GET_SIZE(data)};
    message->msg_hdr = (struct msghdr){name, (socklen_t)address, vector, 1, NULL, 0, 0};
    if (self->info_bytes) {
        memset(control, 0, sizeof *control);
        control->align.cmsg_level = self->is_v6 ? IPPROTO_IPV6 : IPPROTO_IP;
        control->align.cmsg_type = self->is_v6 ? IPV6_PKTINFO : IP_PKTINFO;
        control->align.cmsg_len = CMSG_LEN(self->info_bytes);
        memcpy(CMSG_DATA(&control->align), name + address, self->info_bytes);
        message->msg_hdr.msg_control = control->bytes;
        message->msg_hdr.msg_controllen = CMSG_SPACE(self->info_bytes);
    }
    return 0;
}

static PyObject *burst_send(Burst *self, PyObject *replies)
{
    struct mmsghdr messages[TURN];
    struct iovec vectors[TURN];
    Control controls[TURN];
    Py_ssize_t blocked = 0, failed = 0, size = PyList_Size(replies);
    if (size < 0)
        return NULL; /* no list */
    for (Py_ssize_t begin = 0; begin < size && !blocked; begin += TURN) {
        int count = (int)Py_MIN(size - begin, TURN), at = 0;
        for (int i = 0; i < count; i++)
            if (point_at(self, PyList_GET_ITEM(replies, begin + i), &messages[i], &vectors[i], &controls[i]) < 0)
                return NULL;
        while (at < count) {
            int sent = sendmmsg(self->fd, messages + at, (unsigned)(count - at), MSG_DONTWAIT);
            if (sent > 0) {
                at += sent;
            } else if (errno == EAGAIN) { /* no room, also for the rest */
                blocked = size - begin - at;
                break;
            } else if (errno != EINTR) { /* only the first of what is left could not be sent */
                failed++;
                at++;
            }
        }
    }
    return Py_BuildValue("nn", blocked, failed);
}

static PyMethodDef methods[] = {
    {"receive", (PyCFunction)burst_receive, METH_NOARGS, NULL}, {"send", (PyCFunction)burst_send, METH_O, NULL}, {0}};

static PyMemberDef members[] = {{"unanswerable", T_ULONGLONG, offsetof(Burst, unanswerable), READONLY, NULL}, {0}};

static PyTypeObject burst_type = {PyVarObject_HEAD_INIT(NULL, 0).tp_name = "udptracker.net._burst.Burst",
                                  .tp_basicsize = sizeof(Burst),
                                  .tp_flags = Py_TPFLAGS_DEFAULT,
                                  .tp_new = PyType_GenericNew,
                                  .tp_init = (initproc)burst_init,
                                  .tp_dealloc = (destructor)burst_dealloc,
                                  .tp_methods = methods,
                                  .tp_members = members};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_burst", .m_size = -1};

PyMODINIT_FUNC PyInit__burst(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddType(module, &burst_type) < 0)
        Py_CLEAR(module);
    return module;
}
