# What the steps of an apply call on Linux, beside those of every platform. The probe's functions are here too.

WORK=/run/reconciler

lock() {
    exec 9>"$WORK/lock"
    flock -w 60 9
}

decode() { base64 -d; }

# detached COMMAND...: of no session that could end
detached() { setsid "$@" </dev/null >/dev/null 2>&1 9>&- & }

# written PATH: systemd reads its units again before the next start, once for any number of them.
written() {
    case $1 in /etc/systemd/system/*) : >"$WORK/reload" ;; esac
}

reload_units() {
    [ -e "$WORK/reload" ] || [ "$(systemctl show -P NeedDaemonReload "$1")" = yes ] || return 0
    rm -f "$WORK/reload"
    systemctl daemon-reload
}

# network FUNCTION WORDS... or network run FILE
network() {
    (
        set -e
        . "$ETC/network/functions.sh"
        alone
        if [ "$1" = run ]; then . "$2"; else "$@"; fi
    )
}

set_sysctl() { sysctl -qw "$1=$2"; }

# load_rules CANDIDATE FILE: a file that nft refuses never takes the place of one that loads.
load_rules() {
    nft -c -f "$1"
    mv "$1" "$2"
    nft -f "$2"
    printf '%s %s\n' "$(sha256sum <"$2" | cut -c 1-64)" "$(dump | sha256sum | cut -c 1-64)" >"$STATE/firewall.stamp"
}

# load_again FILE: the rules that were there, or none if there were none
load_again() {
    if [ -e "$1" ]; then nft -f "$1"; else no_rules; fi
}

no_rules() {
    for family in inet bridge; do
        nft list table "$family" reconciler >/dev/null 2>&1 && nft delete table "$family" reconciler
    done
    rm -f "$STATE/firewall.stamp"
}

# unpack ARCHIVE DIRECTORY: the archive was made safe before it was sent. The seal is the last thing, so that half
# a tree is a changed tree. A tree in use is mended in place: its mounts go on showing it.
unpack() {
    mkdir -p "${2%/*}"
    rm -f "$2.seal"
    if [ -d "$2" ]; then
        find "$2" -mindepth 1 -delete
        tar -x -f "$1" -C "$2" --no-same-owner --same-permissions
    else
        rm -rf "$2.new"
        mkdir "$2.new"
        chmod 755 "$2.new"
        tar -x -f "$1" -C "$2.new" --no-same-owner --same-permissions
        mv -T "$2.new" "$2"
    fi
    looks "$2" >"$2.seal"
}

# remove_tree DIRECTORY: only of what no tenant can write to; never across a mount.
remove_tree() {
    rm -f "$1.seal"
    rm -rf --one-file-system "$1" "$1.new"
}

# places DIRECTORY...: made once, then the jail's own; their parents are the host's.
places() {
    for place in "$@"; do
        [ -d "$place" ] || mkdir -m 755 "$place"
    done
}

no_dataset() { :; }

# unused DIRECTORY JAIL: in whoever's namespace. Mounts within one file system do not stop who deletes. What something is
# mounted of is told from the root of its file system (proc(5), mountinfo): the end of that is ours.
unused() {
    used=$(cat /proc/[0-9]*/mountinfo 2>/dev/null | awk -v top="$(cd "$1" && pwd -P)" -v home="/jails/$2([.]purging)?" '
        $5 == top || index($5, top "/") == 1 || $4 ~ (home "(/.*)?$") { print $5; exit }')
    [ -z "$used" ] || fail "$1 is in use: $used is mounted in it, or of it"
}

wipe() { rm -rf --one-file-system "$1"; }

# machine UNIT start|restart|keep: what `systemctl set-property` and `systemctl edit` wrote is taken back.
machine() {
    for drop in /etc/systemd/system /run/systemd/system /etc/systemd/system.control /run/systemd/system.control; do
        [ ! -e "$drop/$1.d" ] || { rm -rf "$drop/$1.d"; : >"$WORK/reload"; }
    done
    reload_units "$1"
    [ "$2" = keep ] || systemctl "$2" "$1" || {
        journalctl --no-pager -o cat -n 5 -u "$1"
        return 1
    }
}

# snapshot UNIT HOME [NAME]: a copy that shares what it holds, before something else runs on the data. Of a jail that has
# stopped: nobody changes a path that root goes along. Without a NAME, one that a kill has left half done.
snapshot() {
    [ -n "$(sharing "$2")" ] || return 0
    kept=$2/snapshots name=$3
    for begun in "$kept"/*.new; do
        [ -n "$name" ] || [ ! -d "$begun" ] || name=$(basename "$begun" .new)
    done
    [ -n "$name" ] || return 0
    newest=$(ls -t "$kept" 2>/dev/null | head -n 1)
    # tried again; an older one is of another time
    [ "$newest" != "$name" ] || return 0
    mkdir -p "$kept/$name.new"
    systemctl stop "$1"
    copied "$2" "$kept" "$name" || {
        rm -rf "$kept/$name.new"
        systemctl start "$1"
        fail "no snapshot, and the jail runs as before"
    }
    ls -t "$kept" | tail -n +4 | while read -r old; do wipe "$kept/$old"; done
}

# copied HOME KEPT NAME: `always` would stop at a file of which btrfs makes no shared copies (chattr(1), C)
copied() {
    rm -rf "$2"/*.new "${2:?}/$3" && mkdir "$2/$3.new" && cp -a --reflink=auto "$1/config" "$1/data" "$2/$3.new" &&
        touch "$2/$3.new" && mv -T "$2/$3.new" "$2/$3"
}

spiped_is_there() {
    command -v spiped >/dev/null || fail 'spiped is not installed on this host: apt-get install spiped'
}

# open_files UNIT COUNT|infinity: of the processes that run; those of a next start have what the unit says
open_files() {
    supervisor=$(systemctl show -P MainPID "$1")
    [ "$supervisor" != 0 ] || return 0
    most=$2:$2
    [ "$2" != infinity ] || most=1024:$(prlimit --pid "$supervisor" --nofile --noheadings -o HARD | tr -d ' ')
    seen= tries=0
    # one that is born meanwhile has what its parent had
    while pids=$(inside "$1" "$supervisor") && [ "$pids" != "$seen" ] && [ $tries -lt 9 ]; do
        for pid in $pids; do prlimit --pid "$pid" --nofile="$most" || [ ! -e "/proc/$pid" ] || return; done
        seen=$pids tries=$((tries + 1))
    done
}

# inside UNIT SUPERVISOR: its processes but that one
inside() {
    group=$(systemctl show -P ControlGroup "$1")
    # the same group is elsewhere with cgroups of version 1
    find "/sys/fs/cgroup$group" "/sys/fs/cgroup/systemd$group" -name cgroup.procs -exec cat {} + 2>/dev/null |
        sort -un | grep -vx "$2"
}

no_machine() {
    systemctl stop "$1" 2>/dev/null || [ "$(systemctl show -P LoadState "$1")" != loaded ]
    systemctl reset-failed "$1" 2>/dev/null || :
}
