"""Build the image and run it, with the commands of the README, on a Debian machine that has no Docker.

podman takes the place of docker: the same commands, and real containers. The base image is not
pulled but made: Debian with its Python 3.13, under the name that the Dockerfile asks for. All of
it lives below one temporary directory and in namespaces of its own (mounts, processes, network), so
that nothing is left on the machine when it ends, however it ends. As root, from the repository::

    apt-get install --no-install-recommends podman podman-compose runc containernetworking-plugins iptables \\
        debootstrap procps
    python3 -m scripts.container [--base FILE]    # FILE keeps the base image for the next time
"""
