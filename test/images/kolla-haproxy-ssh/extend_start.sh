# Stands in for that of Kolla's image haproxy-ssh, and for what its build does besides; sourced by kolla_start.
mkdir -p /run/sshd /var/lib/haproxy/.ssh
chown haproxy: /var/lib/haproxy/.ssh
sed -i '/pam_loginuid/s/required/optional/' /etc/pam.d/sshd
ssh-keygen -q -A
