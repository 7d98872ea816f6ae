"""ansible-playbook for many playbooks: each runs in a process of its own, forked from this one, where Ansible is imported
already and Mitogen's interpreters on the hosts stay from one to the next.

A line of JSON on stdin asks for a run (args, cwd, env), one on stdout answers it (status, stdout, stderr). Ends with stdin.
"""

import gc
import importlib
import json
import os
import pkgutil
import sys
import tempfile

import ansible_mitogen.process
import ansible_mitogen.strategy
from ansible.cli.playbook import main
from ansible.plugins import action, callback, connection, filter, inventory, lookup, shell, strategy, test, vars



def import_plugins():
    """What every task would import anew otherwise."""
    for package in (action, callback, connection, filter, inventory, lookup, shell, strategy, test, vars):
        for plugin in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(plugin.name)


def play(args, cwd, env):
    """Ends the process, with the status of ansible-playbook."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(cwd)
    os.environ.update(env)
    status = 250
    try:
        main(["ansible-playbook", *args])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # What is to be done when this program ends (atexit) is not for this process to do.
        os._exit(status)


def answer(request):
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        pid = os.fork()
        if pid == 0:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            play(**request)
        _, status = os.waitpid(pid, 0)
        texts = {"stdout": stdout, "stderr": stderr}
        for file in texts.values():
            file.seek(0)
        said = {name: file.read().decode(errors="replace") for name, file in texts.items()}
        return {"status": os.waitstatus_to_exitcode(status), **said}


def serve():
    answers = os.fdopen(os.dup(1), "w")
    # Nobody else writes where the answers are read.
    os.dup2(2, 1)
    # Its processes serve all runs: one that finds them started starts none.
    ansible_mitogen.process.get_classic_worker_model()
    # After these, which need none of it.
    import_plugins()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    serve()
