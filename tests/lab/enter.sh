#!/bin/sh
# Runs CMD in fresh net, mount, pid, ipc and uts namespaces: a whole test run or demo is one kill away
# from gone, collides with nothing and reaches no network. Usage: tests/lab/enter.sh CMD [ARG...]
#
# In: a command; working directory, environment, stdin and exit code are kept.
# Out: RECONCILER_LAB=1, and RECONCILER_LAB_ID, which begins the name of every cgroup the lab makes:
# cgroups belong to the machine, not to a namespace, so they are swept here when all else is dead.

refuse() {
    echo "enter.sh: $1" >&2
    exit 3
}

# Waits for process $1, also past signals that a trap took, and leaves its exit code in $code.
wait_for() {
    wait "$1"
    code=$?
    while kill -0 "$1" 2>/dev/null; do
        wait "$1"
        code=$?
    done
}

{ true 3<&0; } 2>/dev/null || exec </dev/null
exec 3<&0 # background commands of a shell lose stdin: keep it for CMD

if [ "${1:-}" = --inside ]; then # PID 1 of the new namespaces: mounts, starts CMD, passes signals, reaps
    shift
    mount -t tmpfs -o mode=755 tmpfs /run/netns &&
        mkdir /run/netns/.cgroup &&
        mount --rbind /sys/fs/cgroup /run/netns/.cgroup &&
        mount -t sysfs sysfs /sys && # of this network namespace: /sys/class/net
        mount --rbind /run/netns/.cgroup /sys/fs/cgroup &&
        umount -l /run/netns/.cgroup &&
        rmdir /run/netns/.cgroup &&
        ip link set lo up || refuse "cannot set up the namespaces"
    # they also ignore SIGINT: undo
    env --default-signal=INT,QUIT -- "$@" <&3 3<&- &
    command=$!
    trap : INT QUIT # the terminal tells CMD itself
    trap 'kill -TERM "$command"; (sleep 10; kill -KILL "$command") &' TERM
    wait_for "$command"
    exit "$code" # and with it everything CMD left behind
fi

[ $# -gt 0 ] || refuse "usage: enter.sh CMD [ARG...]"
[ "$(uname -s)" = Linux ] || refuse "the lab is made of Linux namespaces; this is $(uname -s)"
[ "$(id -u)" = 0 ] || refuse "the lab mounts and makes network links: run it as root"
for tool in unshare setpriv ip ssh-keygen; do
    command -v "$tool" >/dev/null || refuse "the program $tool is missing"
done
mkdir -p /run/netns
unshare --net --mount --pid --ipc --uts --fork true 2>/dev/null || refuse "this machine does not let root make namespaces"

RECONCILER_LAB=1
RECONCILER_LAB_ID=lab$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
export RECONCILER_LAB RECONCILER_LAB_ID

# setpriv: even a SIGKILL to this shell takes everything along
env --default-signal=INT,QUIT -- setpriv --pdeathsig KILL \
    unshare --net --mount --pid --ipc --uts --fork --kill-child --mount-proc --propagation private \
    "$0" --inside "$@" <&3 3<&- &
unshare=$!
trap : INT QUIT
# unshare itself blocks SIGTERM, so its child, the PID 1 inside, is told
trap 'kill -TERM $(cat "/proc/$unshare/task/$unshare/children")' TERM HUP
wait_for "$unshare"

for attempt in 1 2 3 4 5 6 7 8 9 10; do
    left=$(find /sys/fs/cgroup -depth -type d -path "*/$RECONCILER_LAB_ID*" 2>/dev/null)
    [ -n "$left" ] || break
    echo "$left" | xargs rmdir 2>/dev/null || sleep 0.1
done
exit "$code"
