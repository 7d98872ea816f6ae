#!/bin/bash
# Sourced by kolla_start after the configuration is in place, before the command of config.json runs.

# A trace of this shell would be among the log lines.
set +o xtrace

KACME_LOG_DIR=/var/log/kolla/kacme
if [[ ! -d "${KACME_LOG_DIR}" ]]; then
    mkdir -p "${KACME_LOG_DIR}"
fi
if [[ -O "${KACME_LOG_DIR}" && $(stat -c %a "${KACME_LOG_DIR}") != "2775" ]]; then
    chmod 2775 "${KACME_LOG_DIR}"
fi

# The container bootstrap_kacme: set, even to nothing, means bootstrap. Its exit status decides about the deployment.
if [[ "${!KOLLA_BOOTSTRAP[@]}" ]]; then
    status=0
    kacme bootstrap || status=$?
    exit "${status}"
fi

# kacme logs to stderr: to the container's log, and to the file that fluentd reads. Appended, so that logrotate may
# truncate it.
exec 2> >(exec tee -a "${KACME_LOG_DIR}/kacme.log" >&2)
