/* Listens as a service manager does: makes a datagram socket at PATH and prints each message on a
 * line of its own, its line breaks as "|". Ends when its standard input does. */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void print_message(int fd)
{
    char text[4096];
    ssize_t got = recv(fd, text, sizeof text, 0);
    for (ssize_t i = 0; i < got; i++)
        putchar(text[i] == '\n' ? '|' : text[i]);
    putchar('\n');
    fflush(stdout);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fputs("usage: notify-listen PATH\n", stderr);
        return 2;
    }
    strcpy(address.sun_path, argv[1]);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        perror(argv[1]);
        return 1;
    }
    puts("listening");
    fflush(stdout);
    struct pollfd waited[2] = {{.fd = fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    while (poll(waited, 2, -1) > 0 && waited[1].revents == 0)
        if (waited[0].revents & POLLIN)
            print_message(fd);
    return 0;
}
