#!/bin/sh
# run FUNCTION WORDS...: for jail.conf, and for whoever looks after a host by hand.
set -e
# exec.clean (jail(8)) leaves what login.conf(5) says, or less
PATH=/sbin:/bin:/usr/sbin:/usr/bin
export PATH
. /etc/reconciler/network/functions.sh
. /etc/reconciler/functions.sh
"$@"
