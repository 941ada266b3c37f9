//! Where the log is archived to.

use super::raw::Raw;
use super::settings::Archive;

/// What the flags of the log archive say; none without a URL.
pub(super) fn archive(raw: &Raw) -> Result<Option<Archive>, String> {
    let (url, cluster) = (raw.text("archive-url"), raw.text("archive-cluster"));
    if url.is_empty() {
        return match cluster.is_empty() {
            true => Ok(None),
            false => Err("--archive-cluster needs --archive-url: say where to archive to".into()),
        };
    }
    if !url.starts_with("s3://") && !url.starts_with("file:///") {
        let shown = url.split('?').next().unwrap_or_default();
        return Err(format!(
            "--archive-url={shown} names no store: use s3://bucket/prefix or file:///directory"
        ));
    }
    if cluster.is_empty() {
        return Err(
            "--archive-url needs --archive-cluster: the name under which the cluster's backups lie"
                .into(),
        );
    }
    let segment_bytes = usize::try_from(raw.unsigned("archive-segment-bytes"));
    Ok(Some(Archive {
        url: url.to_owned(),
        cluster: cluster.to_owned(),
        delay_max: super::validate::duration(raw, "archive-max-delay"),
        segment_bytes: segment_bytes.map_err(|error| error.to_string())?,
        backlog_bytes: raw.unsigned("archive-backlog-bytes"),
    }))
}
