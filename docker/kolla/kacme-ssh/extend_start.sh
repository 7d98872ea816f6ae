#!/bin/bash
# Sourced by kolla_start after the configuration is in place, before the command of config.json runs.

KACME_SSH_LOG_DIR=/var/log/kolla/kacme_ssh
if [[ ! -d "${KACME_SSH_LOG_DIR}" ]]; then
    mkdir -p "${KACME_SSH_LOG_DIR}"
fi
if [[ -O "${KACME_SSH_LOG_DIR}" && $(stat -c %a "${KACME_SSH_LOG_DIR}") != "2775" ]]; then
    chmod 2775 "${KACME_SSH_LOG_DIR}"
fi

# sshd logs to stderr: to the container's log, and to a file. Appended, so that logrotate may truncate it.
exec 2> >(exec tee -a "${KACME_SSH_LOG_DIR}/kacme_ssh.log" >&2)
