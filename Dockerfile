# An app as one image, the same release as on a host: docker build -t flaskapp . && docker run -p 8085:80 -it flaskapp:latest
# What a container is told, and how to run it in production: container/README.md.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS base
# Nobody here becomes another user, so nothing keeps the right to.
# No versions of Debian's packages: a build is how an image gets its security updates.
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends nginx python3 \
 && rm -rf /etc/nginx/sites-* /etc/nginx/modules-* /var/cache/* /var/lib/apt/lists/* /var/lib/nginx /var/log/* /var/www \
           /etc/*- /run/* /tmp/* \
 && ln -s /tmp/nginx /var/lib/nginx \
 && ln -s /run/nginx /var/log/nginx \
 && chmod 1777 /run \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
ARG APP=api
# The number is the owner of volumes, which outlive images.
RUN groupadd --gid 10001 "$APP" \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir "/srv/apps/$APP/data" --shell /usr/sbin/nologin "$APP" \
 && rm -f /etc/*- /var/log/lastlog /var/log/faillog

FROM base AS build
# hadolint ignore=DL3008
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      ca-certificates git python3-venv systemd-standalone-sysusers systemd-standalone-tmpfiles
COPY requirements/controller.txt /praetor/requirements/
# Where a release expects the tools of a host.
RUN python3 -m venv /opt/uwsgi/venv \
 && /opt/uwsgi/venv/bin/pip install --quiet --no-cache-dir --require-hashes -r /praetor/requirements/controller.txt
COPY . /praetor
WORKDIR /praetor
ARG APP=api
ARG INVENTORY=inventories/container
# Commit of the app's source and its time; `make image` gives both. With them the release has the id that it has on hosts, and the
# same input makes the same image.
ARG COMMIT=
ARG CREATED=
# Of the hosts, such as 3.13, where not all supported Pythons are among them: they are part of the id.
ARG PYTHONS=
RUN PATH="/opt/uwsgi/venv/bin:$PATH" PYTHONPATH=src SOURCE_DATE_EPOCH=0 \
    ansible-playbook playbooks/image.yml -i "$INVENTORY" -e "app=$APP" -e "commit=$COMMIT" -e "built_at=$CREATED" -e "{pythons: '$PYTHONS'}"
# All that the image gets from here, under one directory.
RUN mkdir -p /image/srv/apps /image/etc/nginx /image/usr/local/bin /image/usr/local/lib/praetor/praetor/host \
 && mv "/srv/apps/$APP" /image/srv/apps/ \
 && rm -f "/image/srv/apps/$APP/run.json" "/image/srv/apps/$APP/.flock" \
 && chmod -R a+rX /image/srv/apps \
 && chgrp 0 "/image/srv/apps/$APP/data" && chmod 0770 "/image/srv/apps/$APP/data" \
 && cp -r /etc/nginx/nginx.conf /etc/nginx/praetor /etc/nginx/sites /image/etc/nginx/ \
 && cp /etc/praetor-image.json /image/etc/ \
 && cp -r src/app_exporter container/praetor_container /image/usr/local/lib/praetor/ \
 && cp src/praetor/__init__.py /image/usr/local/lib/praetor/praetor/ \
 && cp src/praetor/host/__init__.py src/praetor/host/uwsgi.py /image/usr/local/lib/praetor/praetor/host/ \
 && cp container/praetor-container /image/usr/local/bin/ \
 && SOURCE_DATE_EPOCH=0 python3 -m compileall -q -s /image /image/usr/local/lib/praetor \
 && find /image -exec touch --no-dereference --date "${CREATED:-now}" {} +

FROM base
ARG APP=api
ARG COMMIT=
ARG CREATED=
ARG BASE
COPY --from=build /image /
LABEL org.opencontainers.image.title="$APP" \
      org.opencontainers.image.base.name="$BASE" \
      org.opencontainers.image.revision="$COMMIT" \
      org.opencontainers.image.created="$CREATED"
USER 10001:10001
VOLUME /srv/apps/$APP/data
# Not the port of the metrics: `docker run -P` would publish it.
EXPOSE 80
HEALTHCHECK --interval=5s --timeout=4s --start-period=20s --retries=2 CMD ["praetor-container", "health"]
ENTRYPOINT ["praetor-container"]
CMD ["serve"]
