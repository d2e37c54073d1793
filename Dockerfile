# The service as one static binary with the policies beside it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION
# The image's files: the binary of a release and the licences, root certificates, and the policies without their Go code.
RUN go -C tools run ./release -version "$VERSION" -binary ../rootfs/postern
RUN install -m 644 LICENSE rootfs/LICENSE
RUN install -D -m 644 /etc/ssl/certs/ca-certificates.crt rootfs/etc/ssl/certs/ca-certificates.crt
RUN mkdir rootfs/policies && find policies -maxdepth 1 -name '*.y*ml' -exec install -m 644 -t rootfs/policies {} +

FROM scratch
COPY --from=build /src/rootfs/ /
ENV POSTERN_POLICIES=/policies
USER 65532:65532
EXPOSE 6060
ENTRYPOINT ["/postern"]
CMD ["serve"]
