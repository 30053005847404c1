#!/bin/sh
# Starts Orthanc in front of madclip-node, by the two files in config/ beside this script (docs/hospital.md).
#   MADCLIP_ORTHANC_CONFIG         the folder with orthanc.json and site.json (default: config/ beside this script)
#   MADCLIP_ORTHANC_STORAGE        where images lie (default: /var/lib/madclip-orthanc)
#   MADCLIP_ORTHANC_PASSWORD_FILE  what the node has to know; readable by Orthanc's user alone
# Ports, AE title, TLS: the ${…} in orthanc.json.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
config=${MADCLIP_ORTHANC_CONFIG:-$here/config}
export MADCLIP_ORTHANC_STORAGE="${MADCLIP_ORTHANC_STORAGE:-/var/lib/madclip-orthanc}"
password_file=${MADCLIP_ORTHANC_PASSWORD_FILE:?names no password file: openssl rand -hex 24 > FILE, chmod 600}
MADCLIP_ORTHANC_PASSWORD=$(cat "$password_file")
case $MADCLIP_ORTHANC_PASSWORD in
  *[!A-Za-z0-9_-]*) echo "start.sh: the password may hold A-Z, a-z, 0-9, _ and - only" >&2; exit 2 ;;
  ????????????????*) export MADCLIP_ORTHANC_PASSWORD ;;
  *) echo "start.sh: the password is shorter than 16 characters" >&2; exit 2 ;;
esac
umask 077
mkdir -p "$MADCLIP_ORTHANC_STORAGE"
for orthanc in /usr/sbin/Orthanc "$(command -v Orthanc || true)"; do
  if [ -x "$orthanc" ]; then exec "$orthanc" "$config"; fi
done
echo "start.sh: no Orthanc here (apt-get install orthanc orthanc-dicomweb)" >&2
exit 2
