//! The rules of comments.

use std::collections::HashMap;

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};
use tenants::{
    TenantDb, TenantTx,
    lists::{self, Rows, Start},
};
use uuid::Uuid;

use super::{
    CommentError,
    api::{CommentOut, MentionOut},
    mentions::Mentions,
    store::{self, Signed, Thread},
};
use crate::{
    activity::{self, Entry, Verb},
    auth::Caller,
    entity::{comments::Model, users::Role},
    error::ServiceError,
    http::{IdempotencyKey, IfMatch, Listing, Page, PageQuery},
    idempotency, limits,
    notifications::{self, Event, Kind},
    references::Reference,
    state::App,
    users::{self, Account, PersonOut},
};

impl CommentOut {
    /// What is shown of a comment by somebody; of those it mentions, who has a name here.
    fn show(comment: &Model, author: Option<PersonOut>, names: &HashMap<Uuid, String>) -> Self {
        let mention = |pk: Uuid| names.get(&pk).map(|username| MentionOut { pk, username: username.clone() });
        Self {
            id: comment.id,
            author,
            user: comment.user_pk,
            parent: comment.parent,
            body: comment.body.clone(),
            mentions: mentioned(comment).filter_map(mention).collect(),
            reply_count: comment.reply_count,
            created_at: comment.created_at,
            edited_at: comment.edited_at,
            is_deleted: comment.is_deleted,
        }
    }
}

/// The users a comment mentions, those too who are deleted by now.
fn mentioned(comment: &Model) -> impl Iterator<Item = Uuid> {
    let ids = comment.mentions.as_array().into_iter().flatten();
    ids.filter_map(|id| id.as_str()?.parse().ok())
}

/// The names of all these comments mention. One query, and only if there is anybody.
async fn names_in(
    db: &impl ConnectionTrait,
    comments: impl Iterator<Item = &Model>,
) -> Result<HashMap<Uuid, String>, CommentError> {
    let mut pks: Vec<Uuid> = comments.flat_map(mentioned).collect();
    pks.sort_unstable();
    pks.dedup();
    if pks.is_empty() { Ok(HashMap::new()) } else { Ok(users::usernames(db, pks).await?) }
}

/// A comment.
pub(super) async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<CommentOut, CommentError> {
    let Signed { comment, author } = store::find(db, id).await?.ok_or(CommentError::NotFound)?;
    let names = names_in(db, [&comment].into_iter()).await?;
    Ok(CommentOut::show(&comment, author, &names))
}

/// A page of a thread.
pub(super) async fn list<L: Listing>(
    db: &TenantDb,
    thread: Thread,
    query: &PageQuery<L>,
) -> Result<Page<CommentOut>, CommentError> {
    let words = query.words();
    let descending = query.is_descending();
    let window = query.window(count(db, thread, words).await?)?;
    let start = if words.is_empty() {
        lists::seek(db, &thread.list(), Rows::All, window.offset, descending).await?
    } else {
        Start { number: if descending { i64::MAX } else { 0 }, skip: window.offset }
    };
    let comments = store::list(db, thread, words, start, descending, &window).await?;
    let names = names_in(db, comments.iter().map(|signed| &signed.comment)).await?;
    let shown = |Signed { comment, author }| CommentOut::show(&comment, author, &names);
    Ok(query.page(&window, comments.into_iter().map(shown).collect()))
}

/// How many comments a thread has, with these words. Where there are some, what they belong to is there, too.
async fn count(db: &TenantDb, thread: Thread, words: &[String]) -> Result<u64, CommentError> {
    let count = match thread {
        _ if !words.is_empty() => store::count(db, thread, words).await?,
        Thread::Page(_) => lists::extent(db, &thread.list()).await?.count(),
        Thread::Replies(comment) => {
            let count = store::reply_count(db, comment).await?.ok_or(CommentError::NotFound)?;
            return Ok(u64::try_from(count).unwrap_or(0));
        }
    };
    if count > 0 {
        return Ok(count);
    }
    let exists = match thread {
        Thread::Page(user) => users::find(db, user).await?.is_some(),
        Thread::Replies(comment) => store::reply_count(db, comment).await?.is_some(),
    };
    if exists { Ok(0) } else { Err(CommentError::NotFound) }
}

/// A comment to be written.
#[derive(Debug)]
pub(super) struct Draft {
    /// On whose page.
    pub(super) page: Uuid,
    /// The comment it replies to.
    pub(super) parent: Option<Uuid>,
    pub(super) body: String,
}

/// Writes a comment, counts it, and tells whom it concerns.
pub(super) async fn create(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    draft: Draft,
    key: &IdempotencyKey,
) -> Result<CommentOut, CommentError> {
    let (whose, now) = ((db.tenant().id, caller.account.pk), app.clock.now());
    app.throttles.remembered(&app.throttles.comments, whose, now)?;
    let mentions = Mentions::of(&draft.body);
    let tx = db.begin().await?;
    let answer = write(app, &tx, caller.account.pk, draft, &mentions, key).await;
    let written = idempotency::settle(tx, answer).await?;
    app.throttles.comments.note(whose, now);
    Ok(written)
}

async fn write(
    app: &App,
    tx: &TenantTx,
    author: Uuid,
    draft: Draft,
    mentions: &Mentions,
    key: &IdempotencyKey,
) -> Result<CommentOut, CommentError> {
    let now = app.clock.now();
    if let Some(made) = idempotency::claim(tx, key, author, now).await? {
        return find(tx, made).await;
    }
    let replied_to = match draft.parent {
        Some(parent) => store::look_at(tx, parent).await?.pop(),
        None => None,
    };
    let mut pks = vec![author, draft.page];
    pks.extend(replied_to.as_ref().and_then(|parent| parent.author_pk));
    let held = users::hold(tx, &pks, mentions.names()).await?;
    let author = find_active(&held, author)?;
    if !held.iter().any(|account| account.pk == draft.page) {
        return Err(CommentError::NotFound);
    }
    let parent = match draft.parent {
        Some(parent) => Some(lock_parent(tx, parent, draft.page).await?),
        None => None,
    };
    let meant: Vec<&Account> =
        mentions.among(&held).into_iter().filter(|account| account.is_active).collect();
    limits::room_for_rows(tx.tenant()).map_err(ServiceError::from)?;
    let thread = draft.parent.map_or(Thread::Page(draft.page), Thread::Replies);
    let place = lists::enter(tx, &[thread.list()], Rows::All, now).await?;
    let place = place.first().ok_or_else(|| sea_orm::DbErr::Custom("no number was drawn".into()))?;
    let comment = Model {
        id: app.clock.uuid_v7(),
        user_pk: draft.page,
        author_pk: Some(author.pk),
        parent: draft.parent,
        number: place.number,
        body: draft.body,
        mentions: ids(&meant),
        reply_count: 0,
        is_deleted: false,
        created_at: place.at,
        edited_at: None,
    };
    store::insert(tx, comment.clone()).await?;
    idempotency::keep(tx, key, author.pk, comment.id, now).await?;
    let new = News { comment: &comment, author, held: &held };
    new.tell_of_comment(app, tx, parent.as_ref(), &meant).await?;
    Ok(CommentOut::show(&comment, Some(author.into()), &names_of(&meant)))
}

fn find_active(held: &[Account], pk: Uuid) -> Result<&Account, CommentError> {
    let caller = held.iter().find(|account| account.pk == pk && account.is_active);
    caller.ok_or(CommentError::CallerGone)
}

/// The comment that is replied to, if it can be.
async fn lock_parent(tx: &TenantTx, id: Uuid, page: Uuid) -> Result<Model, CommentError> {
    let parent = store::lock(tx, [id]).await?.pop().filter(|parent| parent.user_pk == page);
    let parent = parent.ok_or(CommentError::NoParent(id))?;
    if parent.parent.is_some() {
        return Err(CommentError::ParentIsReply);
    }
    if parent.is_deleted {
        return Err(CommentError::ParentIsDeleted);
    }
    Ok(parent)
}

fn ids(accounts: &[&Account]) -> Value {
    json!(accounts.iter().map(|account| account.pk).collect::<Vec<_>>())
}

fn names_of(accounts: &[&Account]) -> HashMap<Uuid, String> {
    accounts.iter().map(|account| (account.pk, account.username.clone())).collect()
}

/// A comment that was just written or changed, and the users it refers to.
struct News<'a> {
    comment: &'a Model,
    author: &'a Account,
    held: &'a [Account],
}

impl News<'_> {
    /// Of one person, the first that concerns him counts: to be mentioned is more than to be replied to, and that is more
    /// than what happens on his page.
    async fn tell_of_comment(
        &self,
        app: &App,
        tx: &TenantTx,
        parent: Option<&Model>,
        meant: &[&Account],
    ) -> Result<(), CommentError> {
        let (verb, target) = match parent {
            Some(parent) => (Verb::Replied, Reference::comment(parent.id)),
            None => (Verb::Commented, Reference::user(self.comment.user_pk)),
        };
        let mut entries = vec![self.entry(app, verb, target)];
        entries.extend(self.mentions(app, meant));
        let mut recipients: Vec<(Uuid, Kind)> =
            meant.iter().map(|account| (account.pk, Kind::Mention)).collect();
        let replied_to = parent.and_then(|parent| parent.author_pk).map(|pk| (pk, Kind::Reply));
        recipients.extend(replied_to.into_iter().chain([(self.comment.user_pk, Kind::Comment)]));
        self.tell(app, tx, &entries, recipients).await
    }

    /// Tells those who are mentioned for the first time by a change.
    async fn tell_of_change(&self, app: &App, tx: &TenantTx, meant: &[&Account]) -> Result<(), CommentError> {
        if meant.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = self.mentions(app, meant).collect();
        // Whoever was told of the comment before, as its page's owner, is not told again: `notify` knows.
        let recipients = meant.iter().map(|account| (account.pk, Kind::Mention)).collect();
        self.tell(app, tx, &entries, recipients).await
    }

    fn entry(&self, app: &App, verb: Verb, target: Reference) -> Entry {
        let object = Reference::comment(self.comment.id);
        Entry { id: app.clock.uuid_v7(), actor: self.author.pk, verb, object, target: Some(target) }
    }

    /// To mention oneself is not worth a word.
    fn mentions(&self, app: &App, meant: &[&Account]) -> impl Iterator<Item = Entry> {
        let others = meant.iter().map(|account| account.pk).filter(|pk| *pk != self.author.pk);
        others.map(|pk| self.entry(app, Verb::Mentioned, Reference::user(pk)))
    }

    async fn tell(
        &self,
        app: &App,
        tx: &TenantTx,
        entries: &[Entry],
        mut recipients: Vec<(Uuid, Kind)>,
    ) -> Result<(), CommentError> {
        activity::record(tx, entries, app.clock.now()).await?;
        let is_active = |pk: Uuid| self.held.iter().any(|account| account.pk == pk && account.is_active);
        recipients.retain(|(pk, _)| is_active(*pk));
        let object = Reference::comment(self.comment.id);
        let event = Event { id: self.comment.id, actor: Some(self.author.pk), object };
        Ok(notifications::notify(app, tx, &event, &recipients).await?)
    }
}

/// A comment that nobody else changes before the end of the transaction, and the users it refers to.
struct Locked {
    comment: Model,
    /// What it replies to.
    parent: Option<Model>,
    held: Vec<Account>,
}

impl Locked {
    /// Locks a comment that is there, with those whom a new text mentions.
    async fn take(
        tx: &TenantTx,
        caller: &Caller,
        id: Uuid,
        mentions: &Mentions,
    ) -> Result<Self, CommentError> {
        let seen = store::look_at(tx, id).await?;
        let comment = seen.iter().find(|comment| comment.id == id).ok_or(CommentError::NotFound)?;
        let mut pks = vec![caller.account.pk, comment.user_pk];
        pks.extend(seen.iter().filter_map(|comment| comment.author_pk));
        let held = users::hold(tx, &pks, mentions.names()).await?;
        let rows = store::lock(tx, seen.iter().map(|comment| comment.id)).await?;
        let (comment, parent): (Vec<Model>, Vec<Model>) = rows.into_iter().partition(|row| row.id == id);
        let comment = comment.into_iter().find(|comment| !comment.is_deleted);
        let comment = comment.ok_or(CommentError::NotFound)?;
        Ok(Self { comment, parent: parent.into_iter().next(), held })
    }

    /// What GET shows of it.
    async fn show(&self, tx: &TenantTx) -> Result<CommentOut, CommentError> {
        let author = self.held.iter().find(|account| Some(account.pk) == self.comment.author_pk);
        let names = names_in(tx, [&self.comment].into_iter()).await?;
        Ok(CommentOut::show(&self.comment, author.map(Into::into), &names))
    }
}

/// Changes the text of a comment.
pub(super) async fn edit(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    id: Uuid,
    body: Option<String>,
    if_match: &IfMatch,
) -> Result<CommentOut, CommentError> {
    let mentions = body.as_deref().map(Mentions::of).unwrap_or_default();
    let tx = db.begin().await?;
    let locked = Locked::take(&tx, caller, id, &mentions).await?;
    let author = find_active(&locked.held, caller.account.pk)?;
    if locked.comment.author_pk != Some(author.pk) {
        return Err(CommentError::Denied);
    }
    let shown = locked.show(&tx).await?;
    if_match.check(&shown)?;
    let Some(body) = body.filter(|body| *body != locked.comment.body) else { return Ok(shown) };
    let before: Vec<Uuid> = mentioned(&locked.comment).collect();
    let mut meant = mentions.among(&locked.held);
    // Who was mentioned when he could still sign in stays so.
    meant.retain(|account| account.is_active || before.contains(&account.pk));
    // Clocks differ, and nothing is edited before it is written.
    let now = app.clock.now().max(locked.comment.created_at);
    let comment = store::edit(&tx, id, body, ids(&meant), now).await?;
    let first: Vec<&Account> =
        meant.iter().copied().filter(|account| !before.contains(&account.pk)).collect();
    let changed = News { comment: &comment, author, held: &locked.held };
    changed.tell_of_change(app, &tx, &first).await?;
    tx.commit().await?;
    Ok(CommentOut::show(&comment, Some(author.into()), &names_of(&meant)))
}

/// Deletes a comment, and leaves its place if there are replies to it.
pub(super) async fn delete(
    db: &TenantDb,
    caller: &Caller,
    id: Uuid,
    if_match: &IfMatch,
) -> Result<(), CommentError> {
    let tx = db.begin().await?;
    let locked = Locked::take(&tx, caller, id, &Mentions::default()).await?;
    let Locked { comment, parent, held } = &locked;
    // As he is now: he may have lost his role since his request came in.
    let by = find_active(held, caller.account.pk)?;
    if comment.author_pk != Some(by.pk) && by.role == Role::Member {
        return Err(CommentError::Denied);
    }
    if_match.check(&locked.show(&tx).await?)?;
    if comment.reply_count > 0 {
        store::bury(&tx, comment).await?;
        return Ok(tx.commit().await?);
    }
    // Of a place only its replies have kept, nothing stays when the last one goes; nor do the numbers of its replies.
    let place = parent.as_ref().filter(|parent| parent.is_deleted && parent.reply_count == 1);
    let gone = place.unwrap_or(comment);
    // Lists before what is counted on the page, as who writes a comment has them: in another order the two would wait for
    // each other.
    lists::leave(&tx, &Thread::of(gone).list(), gone.number, Rows::All).await?;
    if gone.parent.is_none() {
        lists::forget(&tx, &[gone.id]).await?;
    }
    store::delete(&tx, comment).await?;
    if let Some(place) = place {
        store::delete_place(&tx, place.id).await?;
    }
    Ok(tx.commit().await?)
}
