#include "shared/base/step.h"

#ifdef PROMPTGATE_STEPS
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void (*step_hook)(const char *name);

static struct step_order *order; /* NULL: none will ever come */

/* The linker's names for the bounds of the section; weak, for a program may have no points. */
extern struct step *__start_steps[] __attribute__((weak));
extern struct step *__stop_steps[] __attribute__((weak));

void step_each(void (*each)(const char *name, void *context), void *context)
{
    for (struct step **place = __start_steps; place < __stop_steps; place++)
        each((*place)->name, context);
}

static struct step_order *map_order(const char *path)
{
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    int flags = MAP_SHARED | (path ? 0 : MAP_ANONYMOUS);
    void *memory = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED)
        abort();
    if (fd >= 0)
        close(fd);
    return memory;
}

/* In memory that all processes share which come of this one: so it acts once. */
static void take_text(const char *text)
{
    int times = 1;
    order = map_order(NULL);
    int fields = sscanf(text, "%63[^:]:%7[^:]:%d", order->name, order->action, &times);
    if (fields < 2)
        abort();
    atomic_store(&order->left, times);
    atomic_store(&order->state, STEP_ORDERED);
}

__attribute__((constructor)) static void take_order(void)
{
    const char *path = getenv("PROMPTGATE_STEP_ORDER");
    const char *text = getenv("PROMPTGATE_STEP");
    if (path)
        order = map_order(path);
    else if (text)
        take_text(text);
}

/* A file is there for others as soon as it is made, whatever becomes of this process. */
static void note(const char *name)
{
    char path[PATH_MAX];
    const char *directory = getenv("PROMPTGATE_STEPS_SEEN");
    if (!directory)
        return;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0)
        close(fd);
}

static void act(void)
{
    atomic_store(&order->pid, getpid());
    atomic_store(&order->state, STEP_ORDER_TAKEN);
    if (strcmp(order->action, "all") == 0)
        kill(0, SIGKILL);
    if (strcmp(order->action, "kill") == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(order->action, "stop") == 0)
        raise(SIGSTOP);
    while (strcmp(order->action, "spin") == 0)
        continue;
}

static void follow_order(const char *name)
{
    if (atomic_load(&order->state) == STEP_ORDERED && strcmp(order->name, name) == 0 &&
        atomic_fetch_sub(&order->left, 1) == 1)
        act();
}

void step_reached(struct step *step)
{
    int kept = errno;
    if (!atomic_exchange_explicit(&step->noted, 1, memory_order_relaxed))
        note(step->name);
    if (order)
        follow_order(step->name);
    if (step_hook)
        step_hook(step->name);
    errno = kept;
}
#endif
