#!/bin/sh
# Before network and firewall come up: what was applied and never confirmed is taken back. Once since the machine was
# started: whoever starts the firewall by hand must not undo an apply that is under way.
[ ! -e /var/run/reconciler/lock ] || exit 0
for left in /var/lib/reconciler/transactions/*.armed /var/lib/reconciler/transactions/*.reverting; do
    name=${left##*/}
    [ "$(tail -n 1 "$left/script" 2>/dev/null)" != '# complete' ] || sh "$left/script" at_boot "${name%.*}"
done
