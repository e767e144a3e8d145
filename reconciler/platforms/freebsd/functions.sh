# What an apply, the boot (up.sh) and jail.conf (by `run`) call on the host, beside the network's functions.
# Every function converges. Sources: jail(8), devfs(8), rctl(8), pfctl(8).

ETC=/etc/reconciler
STATE=/var/lib/reconciler
DEVICES=7547

# jexec JAIL COMMAND...: nothing of ours goes into a jail, whose root could keep it: 9 is the lock, which would be held
# for as long
jexec() { command jexec "$@" 9>&-; }

# modules NAME...
modules() {
    local module
    for module in "$@"; do kldload -n "$module" || return; done
}

# devices: what a tenant sees of /dev; applied to those that run as well
devices() {
    local path
    devfs rule -s "$DEVICES" delset 2>/dev/null || :
    devfs rule -s "$DEVICES" add hide
    for path in null zero random urandom fd 'fd/*' stdin stdout stderr pts 'pts/*'; do
        devfs rule -s "$DEVICES" add path "$path" unhide
    done
}

# firewall FILE [ANCHOR]: loads the rules, or those of an anchor in the administrator's, then writes down what the kernel
# made of them. An error keeps those that there are.
firewall() {
    local stamp
    modules pf && pfctl -q ${2:+-a "$2"} -f "$1" || return
    if [ -n "$2" ]; then
        stamp=$STATE/anchor.stamp
        in_force "$2" || return
    else
        stamp=$STATE/firewall.stamp
        # -e fails where pf is enabled already
        enabled || pfctl -q -e || return
    fi
    printf '%s %s\n' "$(sha256 -q "$1")" "$(dump "$2" | sha256 -q)" >"$stamp"
}

enabled() { pfctl -s info 2>/dev/null | grep -q '^Status: Enabled'; }

# in_force ANCHOR: whether pf comes to its rules; both are the administrator's to see to
in_force() {
    local kind
    for kind in nat-anchor rdr-anchor anchor; do
        { pfctl -s nat; pfctl -s rules; } 2>/dev/null | grep -qxF "$kind \"$1\" all" || {
            echo "our rules are loaded, and not in force: /etc/pf.conf, as it is loaded, has no line $kind \"$1\""
            return 1
        }
    done
    enabled || { echo 'our rules are loaded, and not in force: pf is not enabled'; return 1; }
}

# dump [ANCHOR]: all that the kernel holds of our rules; what is in their tables does not show in them. Tables are asked for by the
# rules' names: those of the rules before stay until no state has these (pf_ioctl.c, pf_unlink_rule), and are not in force.
dump() {
    local table
    {
        pfctl ${1:+-a "$1"} -s rules && pfctl ${1:+-a "$1"} -s nat &&
            for table in $(pfctl ${1:+-a "$1"} -s rules | tr ' ' '\n' | sed -n 's/^<\(t_.*\)>$/\1/p' | sort -u); do
                pfctl ${1:+-a "$1"} -t "$table" -T show
            done
    } 2>/dev/null
}

# expire FILE [ANCHOR]: whom a rate has cut off may come again; a line is a table and seconds (cron)
expire() {
    local table seconds
    while read -r table seconds; do
        pfctl -q ${2:+-a "$2"} -t "$table" -T expire "$seconds" 2>/dev/null || :
    done <"$1"
}

# before JAIL: what must stand when it starts (exec.prestart)
before() {
    local file
    for file in "$ETC/network/20-$1" $(grep -l " $1 " "$ETC"/network/25-* "$ETC"/network/30-* 2>/dev/null); do
        [ ! -e "$file" ] || . "$file"
    done
}

# limit JAIL (exec.created): before anything runs in it. Where the kernel cannot, the status says so.
limit() {
    local rule
    [ "$(sysctl -n kern.racct.enable 2>/dev/null)" = 1 ] || return 0
    rctl -r "jail:$1" >/dev/null 2>&1 || :
    while read -r rule; do rctl -a "$rule"; done <"$ETC/jails/$1.limits"
}

# secure JAIL LEVEL (exec.poststart): its start script had to set what a higher securelevel(7) forbids
secure() { jail -m "name=$1" "securelevel=$2"; }

# tunnels JAIL (exec.poststart): a pipe that does not stand must not take the jail with it
tunnels() {
    local file
    for file in $(grep -l "^tunnel $1 " "$ETC"/tunnels/* 2>/dev/null); do
        (set -e; . "$file") || echo "${file##*/} failed" >&2
    done
}

# tunnel JAIL ID RUNS PLACE OPTION...: one that runs is ended first. PLACE is its directory, as the host sees it.
tunnel() {
    local jail id runs place
    jail=$1 id=$2 runs=$3 place=$4
    shift 4
    [ -x /usr/local/bin/spiped ] || { echo 'spiped is not installed on this host: pkg install spiped'; return 1; }
    cp /usr/local/bin/spiped "$place/spiped.new~" && chmod 755 "$place/spiped.new~" || return
    mv -f "$place/spiped.new~" "$place/spiped" || return
    no_tunnel "$jail" "$id" || return
    jexec "$jail" /usr/sbin/daemon -R 1 -o /dev/stdout -t "tunnel $id $runs" /usr/sbin/chroot -G 1001 -g 1001 -u 1001 / \
        "/etc/tunnels/$id/spiped" "$@" </dev/null >>"/var/log/reconciler/$jail.log" 2>&1 || return
    # its title is there a moment after jexec has returned, and is what the probe looks for
    until_runs "$jail" "^daemon: tunnel $id " 0 || { echo "tunnel $id does not start"; return 1; }
}

# no_tunnel JAIL ID: asked inside of the jail, whose processes are all that can be meant
no_tunnel() {
    alive "$1" || return 0
    # daemon(8) does not wait for what it has kept up, whose port is to be had again
    jexec "$1" pkill -f "^(daemon: tunnel $2 |/etc/tunnels/$2/)" || return 0
    until_runs "$1" "^(daemon: tunnel $2 |/etc/tunnels/$2/)" 1 ||
        jexec "$1" pkill -9 -f "^(daemon: tunnel $2 |/etc/tunnels/$2/)" || :
}

# until_runs JAIL COMMAND STATUS: waits until pgrep(1) says so (0: it runs, 1: it does not), 5 s at most
until_runs() {
    local tries status
    tries=0
    while [ $tries -lt 50 ]; do
        status=0
        jexec "$1" pgrep -f "$2" >/dev/null || status=$?
        [ $status != "$3" ] || return 0
        tries=$((tries + 1))
        sleep 0.1
    done
    return 1
}

# up JAIL LIVE
up() {
    ! alive "$1" || return 0
    clear_away "$1" "$2" || return
    # nothing of ours goes into a jail: 9 is the lock, and an apply ignores signals
    (trap - HUP PIPE; exec jail -f "$ETC/jails/$1.conf" -c "$1" </dev/null 9>&-) || {
        tail -n 5 "/var/log/reconciler/$1.log" 2>/dev/null
        return 1
    }
    alive "$1"
}

# down JAIL LIVE
down() {
    local nic
    if alive "$1"; then
        # it ends by itself, in time (stopTimeout): this is for a jail in which nothing does
        timeout 150 jexec "$1" /bin/sh /etc/stop 9>&- || :
        for nic in $(jexec "$1" /sbin/ifconfig -l); do
            case $nic in lo*) ;; *) ifconfig "$nic" -vnet "$1" ;; esac
        done
        # by name alone: its file may have changed since it was started
        jail -R "$1"
    fi
    clear_away "$1" "$2"
}

# clear_away JAIL LIVE: what a jail leaves that was killed: mounts, and rules that rctl keeps for jails that are gone
clear_away() {
    local tries left force place
    rctl -r "jail:$1" >/dev/null 2>&1 || :
    tries=0
    while left=$(mounted "$2") && [ -n "$left" ]; do
        [ $tries -lt 20 ] || { echo "cannot unmount" $left; return 1; }
        # a dying jail is busy for a while
        [ $tries -lt 5 ] && force= || force=-f
        for place in $left; do umount $force "$place" 2>/dev/null || :; done
        tries=$((tries + 1))
        [ -z "$(mounted "$2")" ] || sleep 0.5
    done
}

# mounted DIRECTORY: the mounts at it and below it, deepest first
mounted() {
    mount -p | awk -v top="$1" '$2 == top || index($2, top "/") == 1 { print $2 }' | sort -r
}
