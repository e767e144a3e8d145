#!/bin/sh
# Makes sure of the system packages that the lab's hosts are made of. As root on Debian they are installed, without
# starting their services here; elsewhere the missing ones are listed, with the command that installs them.

PATH=$PATH:/usr/sbin:/sbin
missing=
need() { # need PACKAGE FILE
    [ -e "$2" ] || missing="$missing $1"
}
need git /usr/bin/git
need openssh-server /usr/sbin/sshd
need openssh-client /usr/bin/ssh-keygen
need systemd /lib/systemd/systemd
need systemd-container /usr/bin/systemd-nspawn
need dbus /usr/bin/dbus-daemon
need nftables /usr/sbin/nft
need iproute2 /sbin/ip
need procps /usr/sbin/sysctl
need util-linux /usr/bin/nsenter
need python3-minimal /usr/bin/python3
need nginx-light /usr/sbin/nginx
need redis-server /usr/bin/redis-server
need spiped /usr/bin/spiped
need btrfs-progs /sbin/mkfs.btrfs
need sudo /usr/bin/sudo
need opendoas /usr/bin/doas
[ -n "$missing" ] || exit 0

command="apt-get install --no-install-recommends$missing"
if [ "$(uname -s)" != Linux ]; then
    echo "The lab needs Linux: build the Dockerfile's target demo and run it with docker run --privileged." >&2
    exit 3
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Missing packages:$missing" >&2
    echo "Install them as root ($command), or use the Dockerfile's target demo with docker run --privileged." >&2
    exit 3
fi

echo "Installing$missing"
policy=/usr/sbin/policy-rc.d
[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && trap 'rm -f $policy' EXIT; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing >/dev/null
