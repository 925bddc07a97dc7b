#!/bin/sh
# /usr/local/bin/statsvc: the program with the settings of the installed service, as the user that serves.
# So no command opens another store, or leaves files in its folder that the service can't write.
set -eu
STATSVC_STORE=sqlite:///var/lib/statsvc/stats.db
set -a
[ ! -r /etc/statsvc/statsvc.env ] || . /etc/statsvc/statsvc.env
set +a
export STATSVC_STORE
cd /
if [ "$(id -un)" = statsvc ]; then
    exec /opt/statsvc/bin/statsvc "$@"
fi
exec runuser -u statsvc -- /opt/statsvc/bin/statsvc "$@"
