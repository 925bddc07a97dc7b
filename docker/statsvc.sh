#!/bin/sh
# /usr/local/bin/statsvc: the program with the settings of the installed service, as the user that serves.
# So no command opens another store, or leaves files in its folder that the service can't write.
set -eu
STATSVC_STORE=sqlite:///var/lib/statsvc/stats.db
settings=/etc/statsvc/statsvc.env
# Read as systemd reads it: a value may have spaces, with or without quotes around it, and nothing is run.
[ -r $settings ] || settings=/dev/null
while IFS= read -r line || [ -n "$line" ]; do
    case $line in
    STATSVC_*=*)
        value=${line#*=}
        value=${value#[\"\']}
        export "${line%%=*}=${value%[\"\']}"
        ;;
    esac
done <$settings
export STATSVC_STORE
if [ "$(id -un)" = statsvc ]; then
    exec /opt/statsvc/bin/statsvc "$@"
fi
exec runuser -u statsvc -- /opt/statsvc/bin/statsvc "$@"
