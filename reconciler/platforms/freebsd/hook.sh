#!/bin/sh
#
# PROVIDE: reconciler
# REQUIRE: FILESYSTEMS NETWORKING pf
# KEYWORD: nojail shutdown
#
# Written by the reconciler; changes are overwritten. Without an rcvar: rc.conf is the administrator's.

. /etc/rc.subr

name=reconciler
start_cmd=reconciler_start
stop_cmd=reconciler_stop

# The jails come up beside the boot: one that hangs must not keep sshd from starting. They hold the lock of an apply.
reconciler_start() {
    mkdir -p /var/run/reconciler
    rm -f /var/lib/reconciler/firewall.stamp /var/lib/reconciler/anchor.stamp
    /bin/sh /etc/reconciler/up.sh network && /usr/sbin/daemon -f \
        /usr/bin/lockf -k -t 600 /var/run/reconciler/lock /bin/sh /etc/reconciler/up.sh jails
}

reconciler_stop() {
    /bin/sh /etc/reconciler/up.sh down
}

load_rc_config $name
run_rc_command "$1"
