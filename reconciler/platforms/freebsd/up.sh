#!/bin/sh
# Makes the host as it was before it went down: up.sh network, then up.sh jails. The boot hook runs this.
cd /etc/reconciler || exit
[ "$1" != network ] || sh ./revert.sh
. ./network/functions.sh
. ./functions.sh

case $1 in
    network)
        modules $(cat modules) || exit
        sysctl -q -f sysctl.conf
        devices
        # without rules no port is joined and no jail starts; there are both files while one takes the place of the other
        { [ -e pf.anchor ] && firewall pf.anchor reconciler; } || { [ -e pf.conf ] && firewall pf.conf; } || exit
        for file in network/[0-9]*; do
            # one jail's broken cable must not keep the others dark
            (set -e; . "./$file") || echo "$file failed" >&2
        done
        ;;
    jails)
        [ -e /var/lib/reconciler/firewall.stamp ] || [ -e /var/lib/reconciler/anchor.stamp ] || exit
        while read -r name live; do
            (set -e; up "$name" "$live") || echo "jail $name failed" >&2
        done <jails/list
        ;;
    down)
        sed '1!G;h;$!d' jails/list | while read -r name live; do
            (down "$name" "$live")
        done
        ;;
esac
