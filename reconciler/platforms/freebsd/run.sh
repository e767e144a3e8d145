#!/bin/sh
# run FUNCTION WORDS...: for jail.conf, and for whoever looks after a host by hand.
set -e
. /etc/reconciler/network/functions.sh
. /etc/reconciler/functions.sh
"$@"
