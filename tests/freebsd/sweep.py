"""Takes everything off the host that the reconciler or these tests put there, whatever state they left it in.

In: a Host, and on it the folder MARK that says how it was before (without it nothing is swept: the host may be
somebody's real one). Out: a bare host again. Nothing stops at a failure, and all can be begun again. The product has
no such command on purpose: data is never deleted, and a host that left the repository is not wiped.
"""

from __future__ import annotations

from .host import SLOW, Done, Host
from .look import SYSCTLS

MARK = "/var/db/reconciler-tests"
OURS = "/etc/reconciler /var/lib/reconciler /var/log/reconciler /var/run/reconciler /usr/local/etc/rc.d/reconciler"
FOLDERS = "/var/lib /usr/local/etc/rc.d /usr/local/etc"

REMEMBER = f"""
set -e
for path in {OURS}; do
    if [ -e "$path" ]; then echo "$path exists" >&2; exit 9; fi
done
mkdir -p {MARK}.new
cd {MARK}.new
# first all that comes with modules, so that what they bring is not taken for somebody's later
kldload -n if_bridge || :
kldload -n if_epair || :
ifconfig -l >interfaces
devfs rule showsets >rulesets
jls name >jails
for folder in {FOLDERS}; do [ ! -d $folder ] || echo $folder; done >folders
pfctl -si 2>/dev/null | sed -n 's/^Status: \\([A-Za-z]*\\).*/\\1/p' >pf
for key in {SYSCTLS}; do echo "$key=$(sysctl -n $key)"; done >sysctls
cp -p /etc/rc.conf rc.conf 2>/dev/null || :
mv {MARK}.new {MARK}
"""

SWEEP = f"""
exec 2>&1
[ -d {MARK} ] || {{ echo 'nothing to sweep'; exit 0; }}
known() {{ tr ' ' '\\n' <{MARK}/$1 | grep -qx -- "$2"; }}
mounts() {{ mount -p | awk '$2 ~ "/(var/lib|var/run|etc)/reconciler" {{ print $2 }}' | sort -r; }}

[ ! -x /usr/local/etc/rc.d/reconciler ] || timeout 240 /usr/local/etc/rc.d/reconciler forcestop
# what restarts an application must not do so while its jail goes
pids=$(pgrep -f '^daemon: lab--|/etc/reconciler/up.sh') && kill $pids && sleep 2
for jail in $(jls name); do
    known jails "$jail" && continue
    [ ! -e /etc/reconciler/jails/$jail.conf ] || timeout 240 jail -f /etc/reconciler/jails/$jail.conf -r "$jail"
    jls -j "$jail" jid >/dev/null 2>&1 && timeout 240 jail -r "$jail"
    rctl -r "jail:$jail"
done
for rule in $(rctl | sed -n 's/^\\(jail:lab__[a-z]*\\):.*/\\1/p' | sort -u); do rctl -r "$rule"; done
for try in 1 2 3; do
    for place in $(mounts); do umount -f "$place"; done
    for nic in $(ifconfig -l); do
        known interfaces "$nic" || ifconfig "$nic" destroy
    done
    sleep 2
done 2>/dev/null
! kldstat -qm pf || pfctl -a reconciler -F all
if [ "$(cat {MARK}/pf)" = Enabled ]; then
    pfctl -f /etc/pf.conf
elif kldstat -qm pf; then
    pfctl -d
    pfctl -F all
fi
for set in $(devfs rule showsets); do known rulesets "$set" || devfs rule -s "$set" delset; done
for line in $(cat {MARK}/sysctls); do sysctl "$line"; done
[ ! -e {MARK}/rc.conf ] || cmp -s {MARK}/rc.conf /etc/rc.conf || cp -p {MARK}/rc.conf /etc/rc.conf
rm -f /etc/rc.conf.d/reconciler /etc/newsyslog.conf.d/reconciler.conf /etc/cron.d/reconciler /tmp/reconciler.*
if [ -n "$(mounts)" ]; then
    echo "still mounted, so nothing below /var/lib/reconciler was deleted:"
    mounts
    exit 8
fi
chflags -R noschg,nouchg {OURS} 2>/dev/null
rm -rfx {OURS}
for folder in {FOLDERS}; do known folders $folder || rmdir $folder; done 2>/dev/null
rm -rf {MARK}
echo swept
"""


def remember(host: Host) -> None:
    """Writes down how the host is, so that it can become so again. Refused where a reconciler is at work."""
    done = host.run(REMEMBER, check=False)
    assert done.code != 9, f"this host is somebody's: {done}\nThe tests need a bare one, for they remove everything."
    assert done.code == 0, str(done)


def sweep(host: Host) -> Done:
    return host.run(SWEEP, check=False, timeout=4 * SLOW)
